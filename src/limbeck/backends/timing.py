"""Timing several ways to do the same work, in turns."""

import time
from collections.abc import Callable, Mapping

import torch

__all__ = ["clock", "rounds"]


def clock(device: torch.device, threads: int) -> Callable[[], float]:
    """What to time work on a device with, in seconds.

    On a CPU this process's CPU time, shared out among its threads: other processes on the machine do not
    count. On a GPU the time of day, once the device has done all that it was given.
    """
    if device.type == "cpu":
        return lambda: time.process_time() / threads

    def synchronised() -> float:
        torch.accelerator.synchronize(device)
        return time.perf_counter()

    return synchronised


def rounds(
    calls: Mapping[str, Callable[[], object]],
    clock: Callable[[], float],
    most: int,
    seconds: float = float("inf"),
) -> dict[str, list[float]]:
    """The time of each call in each round.

    Calls take turns within a round and the one that begins changes, so that a machine that slows down does so
    for all.

    Args:
        calls: what to time, by name; each has been called before.
        clock: as `clock` gives.
        most: rounds, at least 1.
        seconds: no further round starts that would end after this time, by the same clock.
    """
    names = list(calls)
    spent: dict[str, list[float]] = {name: [] for name in names}
    start = clock()
    for turn in range(most):
        used = clock() - start
        if turn and used + used / turn > seconds:
            break
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            begin = clock()
            calls[name]()
            spent[name].append(clock() - begin)
    return spent
