"""Trainings in stages: one objective after another, each for some epochs (`stages:` in a recipe).

Some methods have a first stage in their paper. `alone`: the student learns from the method by itself, and
then from the other terms without it (AB, FSP). `layers`: the method's own layers are trained first, by the
teacher alone (the paraphraser of factor transfer). `first_stages` writes these out for an objective that
uses such methods as they are.

`train.epochs` counts all the student's epochs, those of its stages included, so that student and control
learn equally long; a stage that trains a method's own layers comes on top. The learning rate's schedule
goes over the student's epochs as a whole, unless a stage has a schedule of its own; over those of layers it
goes by itself.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from limbeck import methods
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe
from limbeck.objective import Objective, Term
from limbeck.training.settings import Span, Training, check_fits, shortened

__all__ = ["Outline", "Stage", "Staged", "first_stages", "joined", "spans", "with_first_stages"]

SHARE = 8
"""A first stage takes an eighth of the epochs: 30 of the 240 in the CIFAR protocol of Tian et al. 2020
(https://arxiv.org/abs/1910.10699)."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What comes before the objective proper.

    Attributes:
        name: what it is called in figures and messages.
        epochs: how many it takes, at least 1.
        objective: its terms; one that the objective proper, or an earlier stage, has under the same name with
            the same options is the same method, and its layers go on.
        trains: `student`: the student, and the layers of the stage's methods; `layers`: only the layers that
            the stage's methods prepare, by the teacher alone.
        optimizer: its own; None: the training's.
        schedule: its own, over its own epochs; None: the training's, over all of the student's epochs.

    Raises:
        InputError: a value is out of range.
    """

    name: str
    epochs: int
    objective: Mapping[str, Term | float]
    trains: Literal["student", "layers"] = "student"
    optimizer: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        where = f"stages.{self.name}"
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 1:
            raise InputError(f"{where}.epochs: must be a whole number >= 1, got {self.epochs!r}.")
        if self.trains not in ("student", "layers"):
            raise InputError(f"{where}.trains: must be student or layers, got {self.trains!r}.")
        if not isinstance(self.objective, Mapping):
            raise InputError(f"{where}.objective: must be terms by name, got {self.objective!r}.")


class Staged(Objective):
    """An objective with stages before it.

    Args:
        terms: those of the last stage, the objective proper.
        stages: what comes before, in turn.

    Attributes:
        stages: as given.
        at: the number of the stage that runs; the last is the objective proper.

    Raises:
        InputError: a stage or term that cannot work.
    """

    def __init__(self, terms: Mapping[str, Term | float], stages: Sequence[Stage]) -> None:
        super().__init__(terms)
        self.stages = tuple(stages)
        self.earlier = nn.ModuleList()
        known: list[Objective] = [self]
        for stage in self.stages:
            known.append(self._built(stage, known))
            self.earlier.append(known[-1])
        self._listens = [
            *(self._earlier(i).needs_teacher for i in range(len(self.stages))),
            self.needs_teacher,
        ]
        self.needs_teacher = any(self._listens)
        self.enter(len(self.stages))

    def _built(self, stage: Stage, known: Sequence[Objective]) -> Objective:
        """A stage's objective. A term that another objective has just so goes on there, with its layers."""
        terms: dict[str, Term | float] = {}
        for name, given in stage.objective.items():
            term = given if isinstance(given, Term) else Term(weight=given)
            goes_on = [o.method(name) for o in known if name in o.terms and _same(o.terms[name], term)]
            if goes_on:
                term = Term(goes_on[0], weight=term.weight, layers=term.layers, beside=term.beside)
            terms[name] = term
        built = Objective(terms, beside=self)
        for name in terms if stage.trains == "layers" else ():
            where = f"stages.{stage.name}.objective.{name}"
            if built.method(name).stage != "layers":
                raise InputError(
                    f"{where}: this method has no layers to train by themselves; give trains: student."
                )
            if name not in self.terms or self.method(name) is not built.method(name):
                raise InputError(
                    f"{where}: its layers are trained for nothing: the objective has no such term, or with "
                    "other options or layers."
                )
        return built

    def _earlier(self, number: int) -> Objective:
        found = self.earlier[number]
        assert isinstance(found, Objective)
        return found

    @property
    def current(self) -> Objective:
        """The objective of the stage that runs."""
        return self if self.at == len(self.stages) else self._earlier(self.at)

    def enter(self, number: int) -> None:
        """Let a stage run: methods are told, and layers that are prepared take a gradient then only."""
        self.at = number
        self.listens = self._listens[number]
        self.preparing = number < len(self.stages) and self.stages[number].trains == "layers"
        own = list(self._earlier(number).methods.children()) if self.preparing else []
        for method in self.modules():
            if isinstance(method, Method) and method.prepared is not None:
                method.preparing = method in own
                method.prepared.requires_grad_(method.preparing)

    def trained(self) -> list[nn.Parameter]:
        """The parameters of the methods that the running stage trains."""
        if self.at == len(self.stages):
            return super().trained()
        if not self.preparing:
            return self._earlier(self.at).trained()
        layers = [m.prepared for m in self._earlier(self.at).methods.children() if isinstance(m, Method)]
        return [p for layer in layers if layer is not None for p in layer.parameters()]

    def setup(self, probe: Probe, done: Collection[Method] = ()) -> None:
        """Let every method build its own layers, once."""
        super().setup(probe, done)
        ready = {*done, *self._methods(self)}
        for number in range(len(self.stages)):
            self._earlier(number).setup(probe, ready)
            ready |= self._methods(self._earlier(number))
        for stage in self.stages:
            for name in stage.objective if stage.trains == "layers" else ():
                if self.method(name).prepared is None:
                    raise InputError(f"stages.{stage.name}.objective.{name}: has set up no layers to train.")
        self.enter(self.at)

    @staticmethod
    def _methods(objective: Objective) -> set[Method]:
        return {objective.method(name) for name in objective.terms}

    def before_step(self, epoch: float) -> None:
        """Set the weights that change with time; `epoch` counts the student's epochs done."""
        super().before_step(epoch)
        for number in range(len(self.stages)):
            self._earlier(number).before_step(epoch)

    def forward(
        self, student: Knowledge | None, teacher: Knowledge | None, batch: Batch
    ) -> dict[str, Tensor]:
        """The losses of the running stage; see `Objective.forward`."""
        if self.at == len(self.stages):
            return super().forward(student, teacher, batch)
        losses: dict[str, Tensor] = self.earlier[self.at](student, teacher, batch)
        return losses


def _same(one: Term, other: Term) -> bool:
    """Whether two terms of one name are the same method, given the same options and layers."""
    return (one.method, one.options, one.layers) == (other.method, other.options, other.layers)


def joined(terms: Mapping[str, Term | float], stages: Sequence[Stage] = ()) -> Objective:
    """An objective, with stages before it where there are any."""
    return Staged(terms, stages) if stages else Objective(terms)


@dataclass(frozen=True, slots=True)
class Outline:
    """A first stage that is written out: a term's name, and what is trained for how many epochs."""

    term: str
    epochs: int
    trains: Literal["student", "layers"]


def first_stages(
    place: str, kinds: Mapping[str, type[Method]], epochs: int
) -> tuple[list[str], list[Outline]]:
    """What an objective comes to when the stages of its methods' papers are written out.

    Args:
        place: where the terms stand, for messages.
        kinds: the method of each term.
        epochs: the student's epochs in all; 0 trains nothing, and has no stages.

    Returns:
        The names of the terms that are left for the objective proper, and the stages before it.

    Raises:
        InputError: too few epochs, or nothing is left for the objective proper.
    """
    own = [name for name, kind in kinds.items() if kind.stage != "none" and epochs]
    alone = [name for name in own if kinds[name].stage == "alone"]
    length = max(1, round(epochs / SHARE))
    if alone and len(alone) == len(kinds):
        raise InputError(
            f"{place}: {alone[0]} teaches in a first stage by itself, and no term is left for after it; "
            "add cross_entropy or kd."
        )
    if alone and len(alone) * length >= epochs:
        raise InputError(
            f"{place}.{alone[0]}: teaches in a first stage by itself, which takes {length} of {epochs} "
            "epochs and leaves none for the other terms; give more epochs."
        )
    stages = [Outline(name, length, "student" if name in alone else "layers") for name in own]
    return [name for name in kinds if name not in alone], stages


def with_first_stages(
    terms: Mapping[str, Term | float], epochs: int
) -> tuple[dict[str, Term | float], list[Stage]]:
    """Terms as they were given, with the stages of their methods' papers written out; see `first_stages`."""
    left, outlines = first_stages("objective", {n: _kind(n, t) for n, t in terms.items()}, epochs)
    stages = []
    for outline in outlines:
        name, term = outline.term, terms[outline.term]
        if outline.trains == "layers":  # alone: a weight would only change the learning rate
            term = copy.copy(term) if isinstance(term, Term) else Term()
            term.weight = 1.0
        stages.append(Stage(name, outline.epochs, {name: term}, outline.trains))
    return {name: terms[name] for name in left}, stages


def _kind(name: str, term: Term | float) -> type[Method]:
    if not isinstance(term, Term):
        return methods.get(name, where=f"objective.{name}")
    if isinstance(term.method, Method):
        return type(term.method)
    return methods.get(term.method or name, where=f"objective.{name}", beside=term.beside)


def spans(objective: Objective, settings: Training) -> list[tuple[Training, Span]]:
    """The stretches of a training, one for each stage: how each is trained, and where it lies.

    Args:
        objective: what is learnt, with its stages if it has any.
        settings: of the training as a whole; `epochs` counts the student's in all stages.

    Raises:
        InputError: the stages take more epochs than there are, or the schedule of one more than the stage.
    """
    found: list[tuple[Training, Span]] = []
    done = extra = 0
    for stage in objective.stages if isinstance(objective, Staged) else ():
        length = stage.epochs if settings.epochs else 0  # 0 trains nothing
        own = replace(settings, optimizer=stage.optimizer or settings.optimizer)
        if stage.schedule is not None:
            check_fits(stage.schedule, length, f"stages.{stage.name}")
            own = replace(own, epochs=length, schedule=stage.schedule)
        if stage.trains == "layers":
            span = Span(stage.name, False, 0, length, 0, done + extra)
            found.append((shortened(own, length), span))
            extra += length
            continue
        apart = stage.schedule is not None
        span = Span(stage.name, True, done, done + length, done if apart else 0, extra)
        found.append((own, span))
        done += length
    if done and done >= settings.epochs:
        raise InputError(
            f"stages: take {done} epochs of the student's {settings.epochs} (train.epochs counts them all), "
            "so none is left for the objective itself."
        )
    found.append((settings, Span("", True, done, settings.epochs, 0, extra)))
    return found
