"""Moments at which a run is killed: each puts a trap into the library that ends its own process.

A trap is a function of the library, wrapped to count its calls and to send SIGKILL (no clean-up, no
`finally`, no exit hooks) before, in the middle of, or after the n-th. Nothing depends on time.
"""

import errno
import importlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["MOMENTS", "TROUBLES", "trap"]

Make = Callable[[Callable[..., Any]], Callable[..., Any]]


def die() -> None:
    """What `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def _wrap(place: str, make: Make) -> None:
    """Replace "package.module:name.name" by what `make` makes of it."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, make(getattr(owner, name)))


def before(place: str, call: int = 1) -> Callable[[], None]:
    """Killed when the n-th call begins."""
    return lambda: _wrap(place, _counted(call, lambda original, *a, **k: die()))


def after(place: str, call: int = 1) -> Callable[[], None]:
    """Killed when the n-th call has ended."""

    def end(original: Callable[..., Any], *args: Any, **options: Any) -> None:
        original(*args, **options)
        die()

    return lambda: _wrap(place, _counted(call, end))


def _counted(call: int, act: Callable[..., Any]) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def counting(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return act(original, *args, **options) if calls == call else original(*args, **options)

        return counting

    return make


def half_written(name: str, call: int = 1) -> Callable[[], None]:
    """Killed when half of the n-th file of that name is on the disk."""

    def make(original: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
        calls = 0

        def writing(path: Path, data: bytes) -> None:
            nonlocal calls
            calls += name in path.name
            if name in path.name and calls == call:
                original(path, data[: len(data) // 2])
                die()
            original(path, data)

        return writing

    return lambda: _wrap("limbeck.training.checkpoint:_write_synced", make)


def half_a_line(call: int) -> Callable[[], None]:
    """Killed when half of the n-th line of metrics.jsonl is written."""

    def tear(original: Callable[..., Any], journal: Any, line: dict[str, Any]) -> None:
        original(journal, line)
        whole = journal.path.read_bytes()
        journal.path.write_bytes(whole[:-20])
        die()

    return lambda: _wrap("limbeck.journal:Journal.write", _counted(call, tear))


STATE = "limbeck.training.checkpoint"
MOMENTS: dict[str, Callable[[], None]] = {
    # In the order in which a chain of kills and resumes meets them.
    "while recipe.yaml is written": half_written("recipe.yaml"),
    "before the first step": before("limbeck.training.trainer:Trainer._advance"),
    "inside the first save, tensors half written": half_written("tensors.safetensors"),
    "inside a save, between tensors and state.json": half_written("state.json", 3),
    "inside a save, before the renaming": before("pathlib:Path.rename", 2),
    "inside a save, after the renaming": before(f"{STATE}:States._tidy", 2),
    "inside a save, an old state half removed": before("os:rmdir", 1),
    "after back-propagation, before the update": before("limbeck.training.trainer:Trainer._update", 2),
    "in the evaluation after an epoch": before("limbeck.asking:ask", 1),
    "while a line of metrics.jsonl is written": half_a_line(1),
    "after the line, before the state": after("limbeck.journal:Journal.write", 1),
    "while the weights are written": before("limbeck.weights:_order_notes", 1),
    "after the weights, before evaluation.json": half_written("evaluation.json"),
    "after evaluation.json, before the states go": before(f"{STATE}:States.clear", 1),
    "between two updates of the student": after("limbeck.training.trainer:Trainer._update", 7),
    "in the export": after("limbeck.ship:export_onnx", 1),
    "while result.json is written": half_written("result.json"),
    "before the page": before("limbeck.report:write", 1),
}
STEPS = {
    f"in step {n} of its process": before("limbeck.training.trainer:Trainer._advance", n)
    for n in range(1, 21)
}


def interrupted(place: str, call: int, times: int = 1) -> Callable[[], None]:
    """Ctrl-C, once or twice, when the n-th call begins."""

    def press(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)
        return original(*args, **options)

    return lambda: _wrap(place, _counted(call, press))


def full(name: str, call: int) -> Callable[[], None]:
    """No room on the disk from the n-th file of that name on."""

    def make(original: Callable[[int], None]) -> Callable[[int], None]:
        calls = 0

        def syncing(handle: int) -> None:
            nonlocal calls
            calls += name in Path(f"/proc/self/fd/{handle}").readlink().name
            if calls >= call:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(handle)

        return syncing

    return lambda: _wrap("os:fsync", make)


TROUBLES: dict[str, Callable[[], None]] = {
    "Ctrl-C in a step": interrupted("limbeck.training.trainer:Trainer._update", 3),
    "Ctrl-C in an evaluation": interrupted("limbeck.asking:ask", 1),
    "Ctrl-C twice": interrupted("limbeck.training.trainer:Trainer._update", 2, times=2),
    "disk full, in a save": full("tensors.safetensors", 2),
    "disk full, in metrics.jsonl": full("metrics.jsonl", 1),
    "disk full, in the weights": full("student.safetensors", 1),
    "disk full, in evaluation.json": full("evaluation.json", 1),
}
"""Moments at which something else than a kill happens."""


def trap(moment: str) -> None:
    """Set the trap of a moment, in this process."""
    {**MOMENTS, **TROUBLES, **STEPS}[moment]()
