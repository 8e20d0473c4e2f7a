"""A faster way to run a run's teacher, with the same answers: what `teacher.backend` says.

`auto` times the ways that are installed on the real batch, where the teacher's passes are long enough to
repay that, and takes the fastest exact one. What was settled is kept in the run's state.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limbeck import backends
from limbeck.errors import InputError
from limbeck.feeding import cut
from limbeck.objective import Objective, temperature_of
from limbeck.pace import LONG, SMALL, Choices, Work, seconds
from limbeck.progress import Display
from limbeck.teachers import Fixed, Frozen
from limbeck.training.ahead import batches_ahead

__all__ = ["TRIES_FROM", "Equipping", "example"]

TRIES_FROM = 300.0
"""Seconds of the teacher's passes from which on faster ways to run it are tried."""

CALIBRATION = 512
"""Training samples that set the scales of 8 bits, and as many others on which their drift is told."""


@dataclass
class Equipping:
    """Gives teachers the backend that the recipe names, or that is fastest.

    Attributes:
        work: what there is to do.
        display: where it is said.
        choices: where it is kept what was settled.
        objective: whose temperature the drift of 8 bits is told at.
        name: of the teacher, where there are several.
    """

    work: Work
    display: Display
    choices: Choices
    objective: Objective
    name: str = ""
    _done: dict[int, Frozen] = field(default_factory=dict, init=False, repr=False)

    @property
    def wanted(self) -> str:
        """What the recipe says."""
        teacher = self.work.recipe.sole_teacher
        return "auto" if teacher is None or teacher.backend is None else teacher.backend

    @property
    def _at(self) -> str:
        """The place of the key, for messages."""
        return f"teacher.{self.name}.backend" if self.name else "teacher.backend"

    def check(self, teacher: Fixed) -> None:
        """See whether the named backend can serve this teacher; nothing is built.

        Raises:
            InputError: it cannot, and why.
        """
        if self.wanted in ("auto", "eager"):
            return
        assert isinstance(teacher, Frozen)
        if self.work.runtime.shards("teacher"):
            raise InputError(f"{self._at}: {self.wanted} cannot run a teacher that is shared out.")
        reason = backends.hindrance(self.wanted, teacher.network, self.work.runtime.device)
        if reason is not None:
            raise InputError(f"{self._at}: {reason}")

    def __call__(self, teacher: Fixed) -> None:
        """Let a teacher be run in the way that is settled for the layers that it reads.

        Raises:
            InputError: the way that the recipe names cannot run this teacher.
        """
        assert isinstance(teacher, Frozen)
        if id(teacher) in self._done or self.wanted == "eager":
            return
        self._done[id(teacher)] = teacher  # kept, so that no other one gets its number
        self.check(teacher)
        runtime = self.work.runtime
        if runtime.shards("teacher"):
            return
        key = " of ".join(["backend", self.name] if self.name else ["backend"]) + "".join(
            f" {tap.text}" for tap in teacher.network.taps
        )
        settled = self.choices.chosen(key)
        teacher.place(runtime, compiles=False)
        with torch.no_grad(), runtime.autocast():
            backend = self._backend(teacher, settled)
        if settled is None:
            name = "eager" if backend is None else backend.name
            self.choices.choose(key, name)
        if backend is not None:
            teacher.run_by(backend)

    def _backend(self, teacher: Frozen, settled: str | None) -> backends.Backend | None:
        name = self.wanted if settled is None else settled
        if name == "auto":
            return self._fastest(teacher)
        if name == "eager":
            return None
        backend = self._built(name, teacher)
        if name == "int8":
            self._tell_drift(backend, teacher)
        return backend

    def _built(self, name: str, teacher: Frozen) -> backends.Backend:
        calibration = self._few(0) if name.startswith("int8") else iter(())
        return backends.build(name, teacher.network, self._example(), calibration=calibration)

    def _fastest(self, teacher: Frozen) -> backends.Backend | None:
        """The fastest exact one, where the teacher's passes are long enough to repay the search."""
        work, runtime = self.work, self.work.runtime
        asked = work.batch()
        small = cut(asked, 0, SMALL)
        once = seconds(lambda: teacher(small), runtime) * len(asked) / len(small)
        if once <= LONG:
            once = seconds(lambda: teacher(asked), runtime)
        length = work.length(once) * len(work.recipe.seed_list)
        if runtime.told(str(length >= TRIES_FROM)) != "True":
            return None
        name, chosen = "eager", None
        if runtime.main:
            self.display.say(f"tries faster ways to run the teacher, which takes {length / 60:.0f} minutes")
            found = backends.choose(
                teacher.network, self._example(), threads=torch.get_num_threads(), tell=self.display.say
            )
            name, chosen = found.name, found.backend
        name = runtime.told(name)
        if name == "eager":
            return None
        return self._built(name, teacher) if chosen is None else chosen

    def _tell_drift(self, backend: backends.Backend, teacher: Frozen) -> None:
        """Say how far the answers in 8 bits are from the network's own."""
        temperature = temperature_of(self.objective)
        found = backends.drift(backend, teacher.network, self._few(CALIBRATION), temperature)
        self.display.say(
            f"teacher in 8 bits ({backend.name}): KL {found.kl:.2g} at temperature {temperature:g}, the same "
            f"class for {found.agreement:.2%} of {found.samples} training samples"
        )

    def _example(self) -> Tensor:
        return example(self.work)

    def _few(self, first: int) -> Iterator[Tensor]:
        size = min(self.work.part, CALIBRATION)
        for place in range(first, first + CALIBRATION, size):
            yield _image(self.work.batch(size, place % len(self.work.data.train)).input)


def example(work: Work) -> Tensor:
    """A batch as a teacher is asked about it: several at a time, where it is asked ahead."""
    ahead = batches_ahead(work.recipe.ahead, work.part, work.runtime)
    return _image(work.batch(work.part * ahead).input)


def _image(value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError("teacher.backend: runs a teacher of images alone; give eager.")
    return value
