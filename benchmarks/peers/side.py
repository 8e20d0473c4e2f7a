"""One side of the comparison: `Side`."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from peers.task import Task

__all__ = ["RIVAL", "TOLERANCE", "AbsentError", "Side", "Step", "need_compiler"]

Step: TypeAlias = Callable[[], float]
"""One training step; gives its loss, as any loop that logs it."""

RIVAL = "torchdistill, the step"
"""Whom a side is compared with beside the plain loop, unless it says otherwise."""

TOLERANCE = 1e-5
"""How far the first loss of a side that computes the same may be from the plain loop's, as a share of it."""


class AbsentError(Exception):
    """A side cannot run here; the message says what is missing."""


@dataclass(frozen=True)
class Side:
    """Who is measured.

    Attributes:
        name: for the table.
        build: the side's steps on a task, from the task's weights; raises `AbsentError`.
        exact: whether it computes the plain loop's losses; where not, how far it is off is reported.
        check: what stands in for `build` when losses are compared, where the measured steps see other
            batches than the task's.
        rival: another side that it is compared with.
        goal: how many times as fast as the rival it shall be; None: no goal.
    """

    name: str
    build: Callable[[Task], Step]
    exact: bool = True
    check: Callable[[Task], Step] | None = None
    rival: str = RIVAL
    goal: float | None = None


def need_compiler() -> None:
    """`torch.compile` writes C++ on a CPU.

    Raises:
        AbsentError: nothing here compiles it.
    """
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise AbsentError("no C++ compiler, which torch.compile needs")
