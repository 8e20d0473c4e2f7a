"""A step of distillation beside those of other libraries.

    python benchmarks/peers/bench_peers.py [--rounds 7] [--steps 2] [--tiny-steps 200]

What is compared, how, and what is fair about it: README.md in this folder. All sides start from the same
weights, see the same batches, and must find the same first losses before any is timed.
"""

import argparse
import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch._dynamo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from table import publish_sides, side_row, skipped_row, turns

from peers.side import TOLERANCE, AbsentError, Side, Step
from peers.sides import IMAGES, PLAIN, TINY
from peers.task import Task, images_task, tiny_task

__all__ = ["Prepared", "compare", "first_losses", "main", "off_by", "prepare"]

LOOKED_AT = 3
"""Losses that are compared: the third is the first that momentum has a part in."""

LATER = 100
"""How much further off later losses may be: each step carries rounding on."""


def first_losses(step: Step) -> list[float]:
    """The losses of the first steps."""
    return [step() for _ in range(LOOKED_AT)]


def off_by(name: str, losses: Sequence[float], expected: Sequence[float], exact: bool) -> float:
    """By what share of it the first loss differs from the plain loop's.

    Raises:
        AssertionError: the side is said to compute the same, and does not.
    """
    shares = [abs(a - b) / abs(b) for a, b in zip(losses, expected, strict=True)]
    allowed = [TOLERANCE, *[TOLERANCE * LATER] * (len(shares) - 1)]
    same = all(share <= most for share, most in zip(shares, allowed, strict=True))
    assert same or not exact, f"{name} finds the losses {losses}, the plain loop {list(expected)}"
    return shares[0]


@dataclass
class Prepared:
    """The sides of a task, warm; by name.

    Attributes:
        running: the steps of those that can run here.
        off: by what share their first loss differs from the plain loop's.
        missing: why the others cannot run.
    """

    running: dict[str, Step] = field(default_factory=dict)
    off: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def prepare(task: Task, sides: Sequence[Side]) -> Prepared:
    """Build the sides, the plain loop first, and compare their losses with its.

    Raises:
        AssertionError: a side computes something else than it says.
    """
    assert sides[0].name == PLAIN
    found = Prepared()
    expected: list[float] = []
    for side in sides:
        try:
            step = side.build(task)
            losses = first_losses(step if side.check is None else side.check(task))
        except AbsentError as error:
            found.missing[side.name] = str(error)
            continue
        expected = expected or losses
        found.off[side.name] = off_by(side.name, losses, expected, side.exact)
        found.running[side.name] = step
        print(f"{side.name}: first loss {losses[0]:.6f}", file=sys.stderr, flush=True)
    for step in found.running.values():  # compiles what is left, warms up what has a loader
        step(), step()
    return found


def compare(task: Task, sides: Sequence[Side], rounds: int, steps: int) -> list[dict[str, Any]]:
    """One row for each side, those that cannot run here included.

    Args:
        task: what is computed.
        sides: the plain loop first.
        rounds: of which the medians are taken.
        steps: of each side in a round.

    Raises:
        AssertionError: a side computes something else than it says.
    """
    ready = prepare(task, sides)
    # What compiling left behind is a second's work for the collector, and whoever is on would be charged.
    gc.collect()
    gc.freeze()
    spent = turns(ready.running, rounds, steps)
    gc.unfreeze()
    rows = []
    for side in sides:
        name = side.name
        if name in ready.missing:
            rows.append(skipped_row(task.name, name, ready.missing[name], side.goal))
            continue
        row = side_row(task.name, name, spent[name], spent[PLAIN], spent.get(side.rival), side.goal)
        rows.append(row | {"rival": side.rival, "exact": side.exact, "first_loss_off_by": ready.off[name]})
    return rows


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="of each side in a round, on images")
    parser.add_argument("--tiny-steps", type=int, default=200, help="the same for the tiny networks")
    asked = parser.parse_args(given)
    torch.set_num_threads(1)
    # Compiled sides share code, each as a graph of its own; beyond a limit torch would quietly not compile.
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    rows = compare(tiny_task(), TINY, 3 * asked.rounds, asked.tiny_steps)
    rows += compare(images_task(), IMAGES, asked.rounds, asked.steps)
    publish_sides("peers", rows, "torchdistill", _versions())


def _versions() -> dict[str, str]:
    found = {}
    for name in ("torchvision", "timm", "torchdistill"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
