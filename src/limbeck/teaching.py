"""The teacher of a run: trained first where the recipe says so, asked about the test set once, and built for
the layers that each objective reads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck import weights
from limbeck.asking import ask
from limbeck.assembly import make_scheme
from limbeck.build import called, frozen, further_figures, make_objective, make_teacher, prepare
from limbeck.data import Data
from limbeck.data.mislabelling import mislabelled
from limbeck.objective import Objective
from limbeck.phase import Phase
from limbeck.progress import Display
from limbeck.recipe import Network, Recipe, TrainSpec
from limbeck.taps import Tapped
from limbeck.teachers import Fixed, Frozen
from limbeck.training.runtime import Runtime

__all__ = ["Teaching", "teachers_objective"]


class Teaching:
    """Where the students of a run get their teacher.

    Args:
        recipe: the run's recipe, or that of one of several teachers (`Recipe.members`).
        data: what students learn from and are tested on; the teacher itself, on `data.taught`.
        runtime: where.
        display: where progress is shown.
        phase: makes the training of a role and seed: the teacher's own, where it is trained first.

    Attributes:
        seconds: what the teacher's own training took.
        figures: its figures on the test set, as JSON; None before `examine`, and without a teacher.
        logits: its answers there, [N, C]; None where students answer other classes than it does.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        runtime: Runtime,
        display: Display,
        phase: Callable[[str, int, TrainSpec], Phase],
    ) -> None:
        self.recipe = recipe
        self.data = data.taught
        self.runtime = runtime
        self.display = display
        self.seconds = 0.0
        self.figures: dict[str, Any] | None = None
        self.logits: Tensor | None = None
        self._phase = phase
        self._built: tuple[tuple[str, ...], Frozen] | None = None

    def network(self, taps: list[str]) -> Fixed | None:
        """The teacher that reads these layers; the one that was asked for last is kept.

        Training it first, where the recipe says so, happens here, once. One that will be shared out among
        processes is built anew each time: methods look at whole layers when they are set up.
        """
        spec = self.recipe.sole_teacher
        return None if spec is None else self.alone(spec, taps)

    def alone(self, spec: Network, taps: list[str]) -> Frozen:
        """This one teacher, likewise."""
        if self._built is None or self._built[0] != tuple(taps) or self.runtime.shards("teacher"):
            self._built = None  # before the next is there: both need not fit
            built = self._trained(spec, taps) if spec.train else make_teacher(self.recipe, self.data, taps)
            self._built = (tuple(taps), built)
        return self._built[1]

    def stand_in(self, taps: list[str]) -> Fixed | None:
        """The teacher for a rehearsal: one that is trained first stands there untrained."""
        spec = self.recipe.sole_teacher
        return make_teacher(self.recipe, self.data, taps) if spec and spec.train else self.network(taps)

    def _trained(self, spec: Network, taps: list[str]) -> Frozen:
        assert spec.train is not None
        seed, name = self.recipe.seed_list[0], called(spec)
        phase = self._phase(name, seed, spec.train)
        done = phase.finished()
        if done is None:
            data = self.data
            if spec.label_noise:
                wrong = mislabelled(data.train.targets, spec.label_noise, len(data.classes), seed)
                data = replace(data, train=data.train.relabelled(wrong))
            torch.manual_seed(seed)
            built = prepare(spec, data, where=name, beside=self.recipe.beside)
            scheme = make_scheme(built, teachers_objective(self.recipe), None, data, seed)
            scheme.trains = "teacher"
            done = replace(phase, data=data).run(scheme)
            scheme.student.close()
        self.seconds = done.seconds
        # Read back, so that the teacher is the same whether it was trained just now or before a resume.
        torch.manual_seed(seed)
        fresh = prepare(spec, self.data, where=name, beside=self.recipe.beside)
        weights.load(fresh.model, done.file, where=name)
        return frozen(self.recipe, self.data, fresh, taps)

    def examine(self, taps: list[str]) -> None:
        """Ask the teacher about the test set: its figures, and what students are compared with.

        Args:
            taps: the layers that the first student will read, so that the same network goes on teaching.
        """
        spec = self.recipe.sole_teacher
        if spec is None:
            return
        teacher, name = self.alone(spec, taps), called(spec)
        self._warn(spec)
        # Not compiled yet: the test set comes in other batch sizes, for which it would be compiled in vain.
        teacher.place(self.runtime, compiles=False)
        network = teacher.network if teacher.classes is None else _Picked(teacher)
        with self.display.bar(f"{name} on the test set", len(self.data.test), "samples") as bar:
            found, logits = ask(
                network,
                self.data.test,
                self.runtime,
                self.recipe.data.eval_batch_size,
                classes=len(self.data.classes),
                workers=self.recipe.train.workers,
                figures=further_figures(self.recipe, self.data),
                progress=bar.advance,
            )
        self.figures = found.to_json()
        self.logits = None if self.recipe.adds_task else logits
        self.display.say(f"{name}: accuracy {found.accuracy:.4f} on {found.samples} test samples")

    def each(self, teacher: Fixed | None) -> dict[str, dict[str, Any]]:
        """Of several teachers, what `result.json` says of each, by name; nothing of one."""
        return {}

    def _warn(self, spec: Network) -> None:
        if spec.untaught:
            self.display.say(
                f"warning: {called(spec)} has no weights (teacher.weights, teacher.pretrained or "
                "teacher.train); a random teacher teaches nothing."
            )

    def write(self, file: Path) -> None:
        """Keep the answers for trainings in processes of their own."""
        if self.logits is not None:
            weights.save({"logits": self.logits.float()}, file)

    def read(self, file: Path) -> None:
        """Take the answers that `write` kept."""
        if file.exists():
            self.logits = weights.read(file)["logits"]


def teachers_objective(recipe: Recipe) -> Objective:
    """What a teacher that is trained first learns from."""
    teacher = recipe.sole_teacher
    if teacher is None or teacher.objective is None:
        return Objective({"cross_entropy": 1.0})
    return make_objective(teacher.objective, recipe.beside)


class _Picked(Tapped):
    """A teacher some of whose logits are picked, as a network that can be evaluated."""

    def __init__(self, teacher: Frozen) -> None:
        super().__init__(teacher.network.model, (), teacher.network.adapter)
        assert teacher.classes is not None
        self._classes = teacher.classes

    def forward(self, input: Any) -> Any:
        answer = super().forward(input)
        return type(answer)(answer.logits[:, self._classes])
