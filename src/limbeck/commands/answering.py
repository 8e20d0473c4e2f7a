"""What a command answers: words for people, or one JSON object."""

import contextlib
import json
import math
import sys
from collections.abc import Callable
from typing import Any

import typer

__all__ = ["answer"]


def _finite(value: Any) -> Any:
    """The value with null for what JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(_finite(value), allow_nan=False))


def answer(as_json: bool, work: Callable[[], dict[str, Any] | None]) -> None:
    """Do the work, which prints for people unless `as_json`; then print its answer.

    What libraries or a user's own model print goes to standard error, so that the object stays alone.
    """
    if not as_json:
        work()
        return
    with contextlib.redirect_stdout(sys.stderr):
        found = work()
    if found is not None:  # else another process of the same run speaks
        _print(found)
