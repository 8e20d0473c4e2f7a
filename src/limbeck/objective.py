"""The weighted sum of distillation losses: `Objective`."""

import copy
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe
from limbeck.term import Term
from limbeck.weighting import Changing, Ramp, Steps

__all__ = ["Objective", "Ramp", "Steps", "Term", "temperature_of"]


class Looking(Protocol):
    """Decides which of a student's logits a term sees: those of one of several tasks."""

    def seen(self, method: Method, student: Knowledge, batch: Batch) -> tuple[Knowledge, Batch]:
        """What a term sees of the student's answer and of a batch."""

    def probed(self, method: Method, probe: Probe) -> Probe:
        """What a method may look at while it is set up."""


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    key: str
    student: tuple[int, ...]
    teacher: tuple[int, ...]
    weight: float | None  # None: it changes, and stands in the buffer
    ramp: int


def _number(taps: list[str], wanted: str) -> int:
    if wanted not in taps:
        taps.append(wanted)
    return taps.index(wanted)


class Objective(nn.Module):
    """The sum of weighted terms.

    Args:
        terms: by name; a bare number is the weight of the method of that name.
        beside: another objective for the same networks: both read the same taps, so that either can be given
            what the networks say.

    Attributes:
        student_taps, teacher_taps: what the two networks must read, for `Tapped`.
        needs_teacher: whether any term looks at the teacher.
        reused: the term that gives the student its teacher's classifier (SimKD); None: there is none.
        listens: whether the stage that runs looks at the teacher.
        preparing: whether only layers of the methods' own are trained at present, without the student.
        looking: which of the student's logits a term sees; None: all of them.

    Raises:
        InputError: no terms, or a term that cannot be built.
    """

    preparing = False

    def __init__(self, terms: Mapping[str, Term | float], beside: "Objective | None" = None) -> None:
        super().__init__()
        if not terms:
            raise InputError("objective: give at least one term, for example {cross_entropy: 0.1, kd: 0.9}.")
        self.terms = {n: t if isinstance(t, Term) else Term(weight=t) for n, t in terms.items()}
        self.looking: Looking | None = None
        self.methods = nn.ModuleDict()
        self.student_taps: list[str] = [] if beside is None else beside.student_taps
        self.teacher_taps: list[str] = [] if beside is None else beside.teacher_taps
        self._entries: list[_Entry] = []
        self._ramps: list[Changing] = []
        built = {name: term.build(name) for name, term in self.terms.items() if _named(name)}
        _each_its_own(built)
        self.reused: Term | None = _reused(self.terms, built)
        if beside is not None:
            if self.reused is not None and beside.reused is None:
                raise InputError(
                    "objective: a term that gives the student its teacher's classifier in a stage must stand "
                    "in the objective itself as well, for the student keeps it."
                )
            self.reused = beside.reused
        for name, term in self.terms.items():
            self._add(name, term, built[name])
        self.needs_teacher = any(self.method(name).kind != "label" for name in self.terms)
        self.listens = self.needs_teacher
        self.register_buffer("ramped", torch.zeros(len(self._ramps)), persistent=False)
        self.ramped: Tensor
        Objective.before_step(self, 0.0)  # not that of a class derived from this one, which is not ready

    def _add(self, name: str, term: Term, method: Method) -> None:
        _check_weight(name, term.weight)
        self.methods[_key(name)] = method
        # A composite's projector answers for the layer that it projects; all other layers are inside.
        read = [s if self.reused is None else _inside(s) for s in term.layers]
        read = ["projector"] if method.reuses_head else read
        self._entries.append(
            _Entry(
                name,
                _key(name),
                tuple(_number(self.student_taps, s) for s in read),
                tuple(_number(self.teacher_taps, t) for t in term.layers.values()),
                None if isinstance(term.weight, Changing) else float(term.weight),
                len(self._ramps),
            )
        )
        if isinstance(term.weight, Changing):
            self._ramps.append(term.weight)

    def method(self, name: str) -> Method:
        """The method of a term."""
        found = self.methods[_key(name)]
        assert isinstance(found, Method)
        return found

    def label_terms(self) -> dict[str, Term | float]:
        """The terms that look at labels only, rescaled to total weight 1: the control's objective."""
        kept = {n: t for n, t in self.terms.items() if self.method(n).kind == "label"}
        weights = {n: t.weight.end if isinstance(t.weight, Changing) else t.weight for n, t in kept.items()}
        total = sum(weights.values())
        scaled: dict[str, Term | float] = {}
        for name, term in kept.items():
            share = weights[name] / total if total > 0 else 1.0 / len(kept)
            # A method with a memory of its own must not carry it from the control to the student.
            method = copy.deepcopy(term.method) if isinstance(term.method, Method) else term.method or name
            scaled[name] = Term(method, weight=share, layers=term.layers, beside=term.beside, **term.options)
        return scaled

    def setup(self, probe: Probe, done: Collection[Method] = ()) -> None:
        """Let every method build its own layers.

        Args:
            probe: carries the features of all taps.
            done: methods that have built theirs before.
        """
        for entry in self._entries:
            method = self.method(entry.name)
            if method not in done:
                method.setup(self._part(entry, probe))

    @property
    def current(self) -> "Objective":
        """The objective of the stage that runs."""
        return self

    def enter(self, number: int) -> None:
        """Let a stage run; without stages there is only one, number 0."""

    def trained(self) -> list[nn.Parameter]:
        """The parameters of the methods that are learned at present."""
        return [p for p in self.methods.parameters() if p.requires_grad]

    def _part(self, entry: _Entry, probe: Probe) -> Probe:
        def pick(values: tuple[Any, ...], which: tuple[int, ...]) -> tuple[Any, ...]:
            return tuple(values[i] for i in which) if values else ()

        own = pick(probe.teacher_heads, entry.teacher)  # of several teachers, that of the term's layers
        head = own[0] if own else probe.teacher_head
        part = replace(
            probe,
            student=_select(probe.student, entry.student),
            teacher=None if probe.teacher is None else _select(probe.teacher, entry.teacher),
            student_modules=pick(probe.student_modules, entry.student),
            teacher_modules=pick(probe.teacher_modules, entry.teacher),
            teacher_head=head,
        )
        return part if self.looking is None else self.looking.probed(self.method(entry.name), part)

    def before_step(self, epoch: float) -> None:
        """Set the weights that change with time; `epoch` counts epochs done, with its fraction."""
        for i, ramp in enumerate(self._ramps):
            self.ramped[i] = ramp.at(epoch)

    def forward(
        self, student: Knowledge | None, teacher: Knowledge | None, batch: Batch
    ) -> dict[str, Tensor]:
        """The total under `loss`, and each term's own value, not weighted, under its name.

        Without a student, the values are those of `Method.prepare`.
        """
        values: dict[str, Tensor] = {}
        total: Tensor | None = None
        for entry in self._entries:
            seen = None if teacher is None else _select(teacher, entry.teacher)
            if student is None:
                assert seen is not None
                value = self.method(entry.name).prepare(seen, batch)
            else:
                said, asked = _select(student, entry.student), batch
                if self.looking is not None:
                    said, asked = self.looking.seen(self.method(entry.name), said, batch)
                value = self.methods[entry.key](said, seen, asked)
            if entry.weight is None:
                value_weighted = self.ramped[entry.ramp] * value
                total = value_weighted if total is None else total + value_weighted
            else:  # one operation instead of two, which a tiny network notices
                weight = entry.weight
                total = weight * value if total is None else torch.add(total, value, alpha=weight)
            values[entry.name] = value
        assert total is not None
        return {"loss": total, **values}


def temperature_of(objective: Objective) -> float:
    """The temperature of the first term of responses that has one; 1 where none has.

    A temperature of a label term, of layers or of a contrast between samples softens something else.
    """
    responses = (m for m in objective.modules() if isinstance(m, Method) and m.kind == "response")
    found = (getattr(method, "temperature", None) for method in responses)
    return next((t for t in found if isinstance(t, float)), 1.0)


def _named(name: str) -> bool:
    if name in ("", "loss"):
        raise InputError(
            f'objective: a term may not be called "{name}": "loss" is the sum of all terms, and an empty '
            "name says nothing."
        )
    return True


def _each_its_own(built: Mapping[str, Method]) -> None:
    """Refuse one method under two names: what it sets up for one would be lost to the other."""
    names = list(built)
    for number, name in enumerate(names):
        twin = next((other for other in names[:number] if built[other] is built[name]), None)
        if twin is not None:
            raise InputError(f"objective.{name}: is the very method of {twin}; give each term its own.")


def _reused(terms: Mapping[str, Term], built: Mapping[str, Method]) -> Term | None:
    """The term that gives the student another classifier.

    Raises:
        InputError: there are two.
    """
    found = [name for name in terms if built[name].reuses_head]
    if len(found) > 1:
        raise InputError(
            f"objective.{found[1]}: {found[0]} gives the student the teacher's classifier already."
        )
    return terms[found[0]] if found else None


def _inside(tap: str) -> str:
    """A tap of the plain student, where it stands in a composite."""
    begins_with_a_path = bool(tap) and tap[0] not in "@:"
    return f"trunk.model.{tap}" if begins_with_a_path else f"trunk.model{tap}"


def _check_weight(name: str, weight: object) -> None:
    values = weight.numbers() if isinstance(weight, Changing) else (weight,)
    if not all(isinstance(v, Real) and math.isfinite(v) for v in values):
        raise InputError(
            f"objective.{name}.weight: must be a finite number or a limbeck.Ramp (or Steps); got {weight!r}."
        )


def _key(name: str) -> str:
    """A term's name as torch lets a module be called.

    A method `package.module:Class` has dots, and a term may be called as an attribute is (`values`).
    """
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(_EMPTY, key) else key


_EMPTY = nn.ModuleDict()


def _select(knowledge: Knowledge, which: tuple[int, ...]) -> Knowledge:
    if not knowledge.features:
        return knowledge
    return Knowledge(knowledge.logits, tuple(knowledge.features[i] for i in which))
