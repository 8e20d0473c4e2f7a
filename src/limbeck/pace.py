"""How long a step takes, and whether compiling a run's trainings repays itself.

Compiling takes a while to begin with, so it is tried only where a training is long enough: one step is timed,
and where the work ahead is long a compiled step is timed beside it. What was settled is kept in the run's
state, so that a resumed run computes as it began.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from limbeck.data import Data
from limbeck.export.runtime import first_line
from limbeck.feeding import cut
from limbeck.knowledge import Batch
from limbeck.progress import Display
from limbeck.recipe import Recipe
from limbeck.schemes import Scheme
from limbeck.training.runtime import Runtime

__all__ = ["COMPILES_FROM", "Agreed", "Choices", "Compiling", "Unkept", "Work", "seconds", "seconds_of_step"]

COMPILES_FROM = 600.0
"""Seconds of one training, not compiled, from which on compiling is tried: it takes 20 to 60 itself."""

WORTH = 0.97
"""Share of the time that a compiled step may take: less of a gain is not worth its start."""

LONG = 5.0
"""Seconds; where a whole batch would take longer, its time is reckoned from a small one's."""

SMALL = 16
"""Samples of such a batch."""


class Choices(Protocol):
    """Where it is kept what was settled: a run's folder."""

    def chosen(self, what: str) -> Any:
        """What was settled before; None where nothing was."""

    def choose(self, what: str, value: Any) -> None:
        """Keep what is settled."""


class Unkept:
    """For work that has no folder."""

    def chosen(self, what: str) -> Any:
        """Nothing."""
        return None

    def choose(self, what: str, value: Any) -> None:
        """Nothing is kept."""


@dataclass(frozen=True)
class Agreed:
    """What the first of several processes knows and keeps, for all of them.

    Each looking for itself, one that comes later would find what the first has just written, and the two
    would part ways. All processes call these in the same order.

    Attributes:
        kept: where it lies.
        runtime: whose processes they are.
    """

    kept: Choices
    runtime: Runtime

    def chosen(self, what: str) -> Any:
        """What was settled before, as the first process sees it."""
        known = self.kept.chosen(what) if self.runtime.main else None
        return json.loads(self.runtime.told(json.dumps(known)))

    def choose(self, what: str, value: Any) -> None:
        """Keep what the first process settled."""
        self.runtime.first(partial(self.kept.choose, what, value))


@dataclass(frozen=True)
class Work:
    """What there is to do, in the parts in which one process does it.

    Attributes:
        recipe: the run's.
        data: what is learnt from.
        runtime: where.
    """

    recipe: Recipe
    data: Data
    runtime: Runtime

    @property
    def part(self) -> int:
        """Samples that one process computes at a time."""
        size = min(self.recipe.data.batch_size, len(self.data.train))
        return max(1, size // (self.runtime.world * self.recipe.train.accumulate))

    def length(self, once: float) -> float:
        """Seconds of one training by those of one part of a batch."""
        steps = max(1, len(self.data.train) // self.recipe.data.batch_size)
        return once * self.recipe.train.accumulate * steps * self.recipe.train.epochs

    def batch(self, count: int | None = None, first: int = 0) -> Batch:
        """Real training samples where they are computed on: a part of a batch, or so many from a number."""
        count = self.part if count is None else count
        index = np.resize(np.roll(np.arange(len(self.data.train), dtype=np.int64), -first), count)
        return self.runtime.put(self.data.train.take(index, 0, self.recipe.seed_list[0]))


@dataclass(frozen=True)
class Compiling:
    """Settles `train.compile: auto`.

    Attributes:
        work: what there is to do; its runtime's `compile` is what was settled.
        display: where it is said.
        choices: where it is kept.
    """

    work: Work
    display: Display
    choices: Choices

    def settle(self, scheme: Callable[[], Scheme] | None) -> None:
        """Settle for all trainings.

        Args:
            scheme: builds what a student's training trains, its teacher included; it is thrown away. None: in
                a process that takes what another settled.
        """
        if self.work.recipe.train.compile != "auto":
            return
        settled = self.choices.chosen("compile")
        if settled is None and scheme is not None:
            settled = self._pays(scheme())
            self.choices.choose("compile", settled)
        self.work.runtime.compile = bool(settled)

    def _pays(self, scheme: Scheme) -> bool:
        """Whether a compiled step is faster, where that is worth trying."""
        runtime = self.work.runtime
        if any(runtime.shards(part) for part in ("teacher", "student")):
            return False
        scheme.place(runtime)
        plain = seconds_of_step(scheme, self.work.batch(), runtime)
        length = self.work.length(plain)
        if runtime.told(str(length >= COMPILES_FROM)) != "True":
            return False
        self.display.say(f"tries whether compiling pays: a training takes about {length / 60:.0f} minutes")
        try:
            begin = time.perf_counter()
            scheme.compile()
            compiled = seconds_of_step(scheme, self.work.batch(), runtime)
            spent = time.perf_counter() - begin
        except Exception as error:  # the compiler raises whatever its parts raise
            self.display.say(f"not compiled: {type(error).__name__}: {first_line(error)}")
            pays = False
        else:
            pays = compiled <= WORTH * plain
            self.display.say(
                f"{'compiled' if pays else 'not compiled'}: a compiled step takes {compiled / plain:.2f} of "
                f"a plain one (it took {spent:.0f} s to find out)"
            )
        return runtime.told(str(pays)) == "True"


def seconds_of_step(scheme: Scheme, batch: Batch, runtime: Runtime) -> float:
    """Seconds of one step, forward and back, without learning from it.

    Args:
        scheme: placed already.
        batch: of one process.
        runtime: where.
    """
    scheme.train()
    scheme.before_step(0.0)

    def step(given: Batch) -> None:
        with runtime.autocast():
            loss = scheme(given, scheme.teach(given))["loss"]
        loss.backward()
        scheme.zero_grad(set_to_none=True)

    if scheme._compiled_call_impl is None:  # else it would be compiled for the small one, too
        small = cut(batch, 0, SMALL)
        reckoned = seconds(lambda: step(small), runtime) * len(batch) / len(small)
        # Together: a method that compares samples waits for those of the other processes.
        if runtime.told(str(reckoned > LONG)) == "True":
            return reckoned
    return seconds(lambda: step(batch), runtime)


def seconds(work: Callable[[], object], runtime: Runtime) -> float:
    """Seconds that some work takes, once it has been done before."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        if runtime.device.type != "cpu":
            torch.accelerator.synchronize(runtime.device)
        times.append(time.perf_counter() - begin)
    return min(times[1:])
