"""The recipe that these tests start from."""

from typing import Any

import pytest
from both import RECIPE


@pytest.fixture
def settings() -> dict[str, Any]:
    return dict(RECIPE)
