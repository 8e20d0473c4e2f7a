"""The recipe that these tests start from: digits, a teacher that is trained first, two links."""

from collections.abc import Callable
from typing import Any

import pytest

SMALL = "py:limbeck.students.small:convnet"


@pytest.fixture(scope="session")
def fresh_settings() -> Callable[[], dict[str, Any]]:
    """Makes them anew, so that nobody changes another's."""
    return lambda: {
        "name": "linked",
        "seeds": 2,
        "teacher": {"model": SMALL, "width": 12, "train": {"epochs": 3}},
        "student": {"model": SMALL, "width": 4},
        "data": {"source": "digits", "batch_size": 64, "samples": 320},
        "objective": {"cross_entropy": 0.1, "kd": {"weight": 0.9, "temperature": 4}},
        "train": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "threads": 1},
        "chain": [{"name": "assistant", "student": {"model": SMALL, "width": 8}}, {"name": "student"}],
        "export": {"formats": []},
    }


@pytest.fixture
def settings(fresh_settings: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return fresh_settings()
