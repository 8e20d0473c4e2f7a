"""Made-up batches for the contract checks of `limbeck.methods.testing`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe

__all__ = ["CLASSES", "INPUTS", "SAMPLES", "Case", "Shape", "Subject", "loss_of", "make_case", "tensors"]

Shape = tuple[int, ...]
SAMPLES, CLASSES = 8, 5
_WIDE, _NARROW = ((9, 4, 4), (10, 2, 2)), ((7, 8, 8), (6, 2, 2))


@dataclass(frozen=True)
class Subject:
    """A method under test: how it is built, and the features that it compares.

    Attributes:
        cls: the method.
        options: keyword arguments for its constructor.
        student: shape of each of the student's features without the batch axis; None: maps, as many as
            `cls.pairs` says.
        teacher: the same for the teacher.
    """

    cls: type[Method]
    options: Mapping[str, Any] = field(default_factory=dict)
    student: Sequence[Shape] | None = None
    teacher: Sequence[Shape] | None = None

    def shapes(self) -> tuple[Sequence[Shape], Sequence[Shape]]:
        count = {"none": 0, "one": 1, "many": 2}[self.cls.pairs]
        student = _NARROW[:count] if self.student is None else self.student
        return student, _WIDE[:count] if self.teacher is None else self.teacher

    def ready(self, case: "Case", dtype: torch.dtype = torch.float64) -> Method:
        """The method, set up on a case's shapes and ready to train."""
        method = self.cls(**self.options)
        method.setup(case.probe())
        return method.to(dtype).train()


@dataclass(frozen=True)
class Case:
    """One batch and both answers; `teacher` carries gradients too, so that a leak shows."""

    student: Knowledge
    teacher: Knowledge | None
    batch: Batch

    def probe(self) -> Probe:
        teacher = None if self.teacher is None else self.teacher.detach()
        return Probe(
            student=self.student.detach(),
            teacher=teacher,
            batch=self.batch,
            student_modules=_modules(self.student),
            teacher_modules=() if teacher is None else _modules(teacher),
            student_head=_head(self.student),
            teacher_head=None if teacher is None else _head(teacher),
            samples=4 * SAMPLES,
            classes=CLASSES,
            targets=torch.arange(4 * SAMPLES) % CLASSES,
            generator=torch.Generator().manual_seed(1),
        )

    def map(self, change: Callable[[Tensor], Tensor], *, teacher: bool = True) -> "Case":
        """The case with every tensor of the answers changed; the changed ones are leaves again."""
        theirs = self.teacher if self.teacher is None or not teacher else _map(self.teacher, change)
        return Case(_map(self.student, change), theirs, self.batch)

    def rows(self, index: Tensor) -> "Case":
        """Some of the samples, or all in another order; gradients still reach this case's tensors."""
        pick = {
            name: None if value is None else value[index]
            for name in ("target", "index", "view")
            for value in [getattr(self.batch, name)]
        }
        assert isinstance(self.batch.input, Tensor)

        def rows(k: Knowledge) -> Knowledge:
            return Knowledge(k.logits[index], tuple(f[index] for f in k.features))

        batch = replace(self.batch, input=self.batch.input[index], **pick)
        return Case(rows(self.student), self.teacher and rows(self.teacher), batch)


def make_case(subject: Subject, *, equal: bool = False, dtype: torch.dtype = torch.float64) -> Case:
    """A made-up batch; with `equal`, the student answers as the teacher does, in value and in shape."""
    generator = torch.Generator().manual_seed(0)

    def answer(shapes: Sequence[Shape]) -> Knowledge:
        def draw(*shape: int) -> Tensor:
            values = torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64)
            return values.to(dtype).requires_grad_()

        return Knowledge(3 * draw(CLASSES).detach(), tuple(draw(*shape) for shape in shapes))

    ours, theirs = subject.shapes()
    teacher = _map(answer(theirs), lambda t: t)
    student = _map(teacher if equal else answer(ours), lambda t: t)
    batch = Batch(
        input=torch.rand(SAMPLES, 3, 8, 8, generator=generator),
        target=torch.arange(SAMPLES) % CLASSES,
        index=torch.arange(SAMPLES),
        view=torch.zeros(SAMPLES, dtype=torch.int64),
    )
    return Case(student, None if subject.cls.kind == "label" else teacher, batch)


def loss_of(method: Callable[..., Tensor], case: Case) -> Tensor:
    """The loss, with the random numbers of a method that draws them fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        value = method(case.student, case.teacher, case.batch)
    assert value.ndim == 0, f"the loss must be a scalar, got shape {list(value.shape)}"
    return value


def _map(knowledge: Knowledge, change: Callable[[Tensor], Tensor]) -> Knowledge:
    def leaf(value: Tensor) -> Tensor:
        return change(value.detach()).clone().requires_grad_()

    return Knowledge(leaf(knowledge.logits), tuple(leaf(f) for f in knowledge.features))


def _modules(knowledge: Knowledge) -> tuple[nn.Module, ...]:
    """Stand-ins for tapped modules: a BatchNorm for maps, as a tap before the ReLU would find it."""
    with torch.random.fork_rng(devices=[]):
        return tuple(nn.BatchNorm2d(f.shape[1]) if f.ndim == 4 else nn.Identity() for f in knowledge.features)


def _head(knowledge: Knowledge) -> nn.Linear:
    """A classifier that answers the logits of the last feature, averaged over its places.

    It does so exactly where the feature is wide enough for as many samples (`SAMPLES - 1`, and the bias).
    """
    with torch.random.fork_rng(devices=[]):
        if not knowledge.features:
            return nn.Linear(12, knowledge.logits.shape[1]).requires_grad_(False)
        entering = knowledge.features[-1].detach().double()
        if entering.ndim > 2:
            entering = entering.flatten(2).mean(2)
        given = torch.cat([entering, torch.ones_like(entering[:, :1])], 1)
        solved = torch.linalg.lstsq(given, knowledge.logits.detach().double()).solution.T
        head = nn.Linear(entering.shape[1], len(solved)).requires_grad_(False)
        head.load_state_dict({"weight": solved[:, :-1], "bias": solved[:, -1]})
        return head


def tensors(knowledge: Knowledge | None) -> list[Tensor]:
    return [] if knowledge is None else [knowledge.logits, *knowledge.features]


def _one_class(value: Tensor) -> Tensor:
    """Logits in which one class is certain beyond any doubt; features are left alone."""
    if value.ndim != 2 or value.shape[1] != CLASSES:
        return value
    return 1e4 * nn.functional.one_hot(value.argmax(1), CLASSES).to(value.dtype)


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "ordinary": lambda t: t,
    "saturated": _one_class,
    "opposite": lambda t: -1e3 * t if t.ndim == 2 else t,
    "zero": torch.zeros_like,
    "constant": torch.ones_like,
    "small": lambda t: 1e-4 * t,
}
"""Answers that a loss must survive: what to do to each tensor of an ordinary one."""
