"""What every distillation loss is made of: `Method`, and the `Probe` it may look at while it is set up."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge

__all__ = ["Method", "Probe"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What a method may see before training starts.

    Both answers come from one small batch in eval mode, without gradient, so no BatchNorm is touched.

    Attributes:
        student: the student's answer; `features` are those of the method's own layer pairs.
        teacher: the teacher's answer likewise; None where there is no teacher.
        batch: the batch that was asked about.
        student_modules: the student's tapped modules, in the order of the features; read only.
        teacher_modules: the teacher's, where the teacher is a network.
        student_head: the student's last linear layer, where there is one; read only.
        teacher_head: the teacher's.
        samples: number of training samples.
        classes: number of classes.
        targets: class of each training sample, [samples] int64, `UNLABELLED` where not known; None: nowhere.
        generator: for the initial values of the method's own layers.
    """

    student: Knowledge
    teacher: Knowledge | None
    batch: Batch
    student_modules: tuple[nn.Module, ...] = ()
    teacher_modules: tuple[nn.Module, ...] = ()
    student_head: nn.Module | None = None
    teacher_head: nn.Module | None = None
    samples: int = 0
    classes: int = 0
    targets: Tensor | None = None
    generator: torch.Generator = field(default_factory=torch.Generator)


class Method(nn.Module, ABC):
    """One distillation loss: a thin class over a pure function of `limbeck.functional`.

    A method never sees layer names: `student.features[i]` and `teacher.features[i]` are the i-th pair that
    the objective gave it. Options are the keyword arguments of `__init__`, checked there with `ValueError`.
    """

    paper: ClassVar[str] = ""
    """Authors, year, title and link, in one line."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that a recipe may use (the acronym)."""
    kind: ClassVar[Literal["label", "response", "feature", "relation"]] = "response"
    """`label` terms look at targets only; the control keeps these and drops the rest."""
    pairs: ClassVar[Literal["none", "one", "many"]] = "none"
    """How many layer pairs the method compares."""
    hard_targets: ClassVar[bool] = False
    """True when the method needs class indices, so mixed targets are refused when the recipe is checked."""
    minimum: ClassVar[float | None] = None
    """The loss when the student equals the teacher; None when there is no such value."""
    random: ClassVar[bool] = False
    """True when the loss draws random numbers."""
    stateful: ClassVar[bool] = False
    """True when the loss remembers earlier batches."""
    compares_samples: ClassVar[bool] = False
    """True when samples of a batch are compared with each other."""
    published: ClassVar[Mapping[str, object]] = {}
    """The weight and options that the paper uses, for the method's card and for comparisons."""
    beside: ClassVar[float] = 1.0
    """The weight of the cross-entropy beside which `published` was used."""
    prefers: ClassVar[Literal["embedding", "map", "stages"]] = "map"
    """The features that the field gives it: `embedding`, what enters the classifier; `map`, the last map; or
    `stages`, the last map of every resolution."""

    def setup(self, probe: Probe) -> None:
        """Build layers whose shape depends on the networks. Called once, before the first step."""

    @abstractmethod
    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        """The loss, a scalar. `teacher` is None only for methods whose `kind` is `label`."""
