"""The teachers of a run where there are several: got one by one, asked together, weighted.

Each member is a `Teaching` of its own, by the recipe as if it were the only teacher (`Recipe.members`): so it
is trained in a phase of its own, once, and resumes by itself. Likewise each has its own `Equipping`; where
all of them name `backend: compile`, they are compiled into one graph, which reads the batch once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck import backends
from limbeck.build import further_figures, make_teacher
from limbeck.data import Data
from limbeck.equipping import Equipping, example
from limbeck.evaluation.metrics import score
from limbeck.journal import Journal
from limbeck.objective import Objective
from limbeck.pace import Choices, Work
from limbeck.phase import Phase
from limbeck.progress import Display
from limbeck.recipe import Recipe, TrainSpec
from limbeck.reckoning import size
from limbeck.teachers import Ensemble, Fixed, Frozen, weightings
from limbeck.teachers.ensemble import combined, taps_of
from limbeck.teachers.weightings.base import even
from limbeck.teaching import Teaching
from limbeck.training.runtime import Runtime

__all__ = [
    "Faculty",
    "assembled",
    "each_network",
    "equipping_of",
    "make_teachers",
    "mean_weights",
    "teaching_of",
]


def assembled(recipe: Recipe, members: Mapping[str, Frozen], taps: list[str]) -> Ensemble:
    """Several teachers as one, weighted as the recipe says."""
    spec = recipe.weighting
    assert spec is not None
    return Ensemble(members, weightings.create(spec.name, spec.options, len(members)), taps)


def make_teachers(recipe: Recipe, data: Data, taps: list[str]) -> Fixed:
    """The recipe's teacher or teachers as they are before any training of their own, ready to answer."""
    if not recipe.teacher_names:
        return make_teacher(recipe, data, taps)
    own = recipe.members()
    return assembled(recipe, {n: make_teacher(own[n], data, taps_of(n, taps)) for n in own}, taps)


def teaching_of(
    recipe: Recipe,
    data: Data,
    runtime: Runtime,
    display: Display,
    phase: Callable[[str, int, TrainSpec], Phase],
) -> Teaching:
    """Where the students of a run get their teacher, or their teachers."""
    kind = Faculty if recipe.teacher_names else Teaching
    return kind(recipe, data, runtime, display, phase)


class Faculty(Teaching):
    """Where the students of a run get several teachers; the arguments are those of `Teaching`.

    Attributes:
        seconds: what all teachers' own trainings took.
        figures: those of the average of their probabilities.
        logits: the logarithm of that average.
    """

    _assembled: Ensemble | None = None

    @cached_property
    def members(self) -> dict[str, Teaching]:
        """Where each of them is got, by name."""
        return {
            name: Teaching(own, self.data, self.runtime, self.display, self._phase)
            for name, own in self.recipe.members().items()
        }

    def network(self, taps: list[str]) -> Ensemble:
        """The teachers that read these layers; the last that were asked for are kept, and what runs them."""
        found = {name: _network(one.network(taps_of(name, taps))) for name, one in self.members.items()}
        self.seconds = sum(one.seconds for one in self.members.values())
        last = self._assembled
        if last is None or last.taps != tuple(taps) or last.members != found:
            last = self._assembled = assembled(self.recipe, found, taps)
        return last

    def stand_in(self, taps: list[str]) -> Ensemble:
        """The teachers for a rehearsal: those that are trained first stand there untrained."""
        found = {name: _network(one.stand_in(taps_of(name, taps))) for name, one in self.members.items()}
        return assembled(self.recipe, found, taps)

    def examine(self, taps: list[str]) -> None:
        """Ask each teacher about the test set; the average of what they say stands for all of them."""
        said = []
        for name, one in self.members.items():
            one.examine(taps_of(name, taps))
            assert one.logits is not None
            said.append(one.logits)
        logits = torch.stack(said, 1)
        self.logits = combined(logits, even(logits))
        figures = further_figures(self.recipe, self.data)
        found = score(self.logits, self.data.test.targets, figures=figures)
        self.figures = found.to_json()
        self.display.say(f"teachers together: accuracy {found.accuracy:.4f} on {found.samples} test samples")

    def each(self, teacher: Fixed | None) -> dict[str, dict[str, Any]]:
        """What `result.json` says of each teacher: figures of `examine`, and size."""
        found: dict[str, dict[str, Any]] = {}
        for name, member in _members(teacher).items():
            own = self.members[name].figures
            assert own is not None
            found[name] = {
                self.recipe.metric: own[self.recipe.metric],
                **size(member.network.model),
                "frozen": True,
                **{key: own[key] for key in ("loss", "ece", "per_class")},
            }
        return found


def _network(teacher: Fixed | None) -> Frozen:
    assert isinstance(teacher, Frozen)
    return teacher


def equipping_of(work: Work, display: Display, choices: Choices, objective: Objective) -> Equipping:
    """What gives the teacher or the teachers of a run a faster way to be run."""
    kind = _EquippingEach if work.recipe.teacher_names else Equipping
    return kind(work, display, choices, objective)


@dataclass
class _EquippingEach(Equipping):
    """Gives each of several teachers the backend that its own entry names, or that is fastest for it."""

    _each: dict[str, Equipping] = field(default_factory=dict, init=False, repr=False)
    _joined: dict[int, Ensemble] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, own in self.work.recipe.members().items():
            work = replace(self.work, recipe=own)
            self._each[name] = Equipping(work, self.display, self.choices, self.objective, name)

    def check(self, teacher: Fixed) -> None:
        """See whether each member's backend can serve it."""
        for name, member in _members(teacher).items():
            self._each[name].check(member)

    def __call__(self, teacher: Fixed) -> None:
        """Let each member be run in the way that is settled for it; all in one graph where all name that."""
        members = _members(teacher)
        if any(equip.wanted != "compile" for equip in self._each.values()):
            for name, member in members.items():
                self._each[name](member)
            return
        if not isinstance(teacher, Ensemble) or id(teacher) in self._joined:
            return
        self.check(teacher)
        self._joined[id(teacher)] = teacher  # kept, so that no other one gets its number
        runtime = self.work.runtime
        teacher.place(runtime, compiles=False)
        with torch.no_grad(), runtime.autocast():
            batch = example(self.work)
            teacher.run_by(backends.build_many([member.network for member in members.values()], batch))


def _members(teacher: Fixed | None) -> dict[str, Frozen]:
    assert isinstance(teacher, Ensemble)
    return teacher.members


def each_network(teacher: Fixed) -> dict[str, nn.Module]:
    """The plain network of each of several teachers, by what it is called; none of one teacher."""
    if not isinstance(teacher, Ensemble):
        return {}
    return {f"teacher.{name}": member.plain() for name, member in teacher.members.items()}


def mean_weights(
    metrics: Path, role: str, seeds: Sequence[int], names: Sequence[str]
) -> dict[str, list[Any]]:
    """The mean weight of each teacher in the last epoch of each seed's training; None where there was none.

    Args:
        metrics: the run's metrics.jsonl.
        role: the student's.
        seeds: of the run.
        names: the teachers'.
    """
    found: dict[tuple[str, int], float] = {}
    for line in Journal(metrics).lines() if names else ():
        if line.get("role") == role:
            losses = line.get("losses", {})
            found |= {(n, line["seed"]): losses[f"weight.{n}"] for n in names if f"weight.{n}" in losses}
    return {name: [found.get((name, seed)) for seed in seeds] for name in names}
