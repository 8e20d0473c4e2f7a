"""Methods that compare samples see those of all processes: two with half a batch do what one does with it."""

import inspect
import os
import sys
from typing import Any

import halves
import pytest
import torch

from forking import found_by
from limbeck import methods

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="processes are forked"),
]

Found = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    folder = tmp_path_factory.mktemp("halves")
    return found_by(halves.__file__, folder, halves.WORLD)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", halves.NAMES)
def test_two_processes_equal_one(name: str, dtype: torch.dtype, parts: list[Found]) -> None:
    tolerance = 1e-6 if dtype == torch.float32 else 1e-10
    whole = halves.measure(name, dtype)
    for part in parts:
        found = part[name, str(dtype)]
        torch.testing.assert_close(found["loss"], whole["loss"], rtol=tolerance, atol=tolerance)
        assert found["gradients"].keys() == whole["gradients"].keys()
        assert whole["gradients"]["weight"].abs().max() > 1e-4
        for key, gradient in whole["gradients"].items():
            torch.testing.assert_close(found["gradients"][key], gradient, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found["remembered"], whole["remembered"], rtol=tolerance, atol=tolerance)


def test_no_method_that_compares_samples_is_left_out() -> None:
    """Those that are, compare by batch statistics alone, which each process has of its own part."""
    comparing = {name for name in methods.names() if methods.get(name).compares_samples}
    for name in comparing - set(halves.NAMES):
        source = inspect.getsource(sys.modules[methods.get(name).__module__])
        assert "BatchNorm" in source, name
        assert "everyones" not in source, name
