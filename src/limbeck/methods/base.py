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
        student_head: the linear layer that answers the student's logits, where there is one; read only.
        teacher_head: the teacher's, for the classes that `teacher.logits` has.
        teacher_heads: of several teachers, the head of that one which each of the features is of.
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
    teacher_heads: tuple[nn.Module | None, ...] = ()
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
    prefers: ClassVar[
        Literal["embedding", "map", "classified", "middle", "stages", "before_relu", "flow"]
    ] = "map"
    """The features that the field gives it: `embedding`, what enters the classifier; `map`, the last map;
    `classified`, that map where both classifiers take its mean over places, and else `embedding`;
    `stages`, the last map of every stage; `middle`, the one in the middle of these; `before_relu`, these as
    they are before their last ReLU; `flow`, the map that enters the first stage, and then all stages."""
    stage: ClassVar[Literal["none", "alone", "layers"]] = "none"
    """The stage that the paper puts before the others: `alone`, the student learns from this method by
    itself, and then without it; `layers`, the method's own layers are trained first, by `prepare`."""
    unlike: ClassVar[str] = ""
    """What the literature says of it between networks that are built differently, where it warns."""
    reuses_head: ClassVar[bool] = False
    """Whether the student is given the teacher's classifier behind a projector, and the method reads that."""
    preparing: bool = False
    """Whether the stage of `prepare` runs at present."""

    @property
    def prepared(self) -> nn.Module | None:
        """The layers that `prepare` trains; after that they stay as they are. None: there are none."""
        return None

    def prepare(self, teacher: Knowledge, batch: Batch) -> Tensor:
        """The loss of the stage that trains the method's own layers by the teacher alone, a scalar."""
        # Never asked in a run: only a method whose `stage` is `layers` is, and that has its own.
        raise NotImplementedError(f"{type(self).__name__} has nothing to prepare")

    def train(self, mode: bool = True) -> "Method":
        """As of any module; what was prepared stays in eval mode."""
        super().train(mode)
        if self.prepared is not None and not self.preparing:
            self.prepared.eval()
        return self

    def setup(self, probe: Probe) -> None:
        """Build layers whose shape depends on the networks. Called once, before the first step."""

    @abstractmethod
    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        """The loss, a scalar. `teacher` is None only for methods whose `kind` is `label`."""
