"""Fixtures and rules for the whole suite."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

_NO_DATA = "set LIMBECK_DATA to the folder of the real data sets to run this test"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `data` where LIMBECK_DATA is not set."""
    if os.environ.get("LIMBECK_DATA"):
        return
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(pytest.mark.skip(reason=_NO_DATA))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of the real data sets; skips where there is none."""
    given = os.environ.get("LIMBECK_DATA")
    if not given or not Path(given).is_dir():
        pytest.skip(_NO_DATA)
    return Path(given)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache folder."""
    patch = pytest.MonkeyPatch()
    patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
