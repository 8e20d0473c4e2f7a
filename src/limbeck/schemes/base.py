"""Who teaches whom: `Scheme`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking

if TYPE_CHECKING:
    from limbeck.data.samples import Samples
    from limbeck.training.runtime import Runtime

__all__ = ["Kind", "Lesson", "Scheme", "Setting"]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Who learns from whom, for people.

    Attributes:
        learner: what learns.
        sources: what it learns from: networks, or "labels".
        terms: by which terms.
    """

    learner: str
    sources: tuple[str, ...]
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """What a scheme may know of the training that it is for.

    Attributes:
        samples: what is learnt from, numbered as `Batch.index` numbers it; None: nobody can name them, so
            that no kind that `looks_up` samples is built.
        classes: number of classes.
        seed: of the training.
        epochs: of the training.
        probe: a few samples.
        objective: builds one more objective of the same terms, for one more learner.
        peers: the networks that learn beside the student, under the names that figures of them carry.
        generator: for the initial values of the scheme's own layers.
    """

    samples: "Samples | None"
    classes: int
    seed: int
    epochs: int
    probe: Batch
    objective: Callable[[], Objective]
    peers: Mapping[str, Tapped] = field(default_factory=dict)
    generator: torch.Generator = field(default_factory=torch.Generator)


class Scheme(nn.Module, ABC):
    """Owns the student and every learned part that is not the student.

    `teach` runs outside compile and process wrapping; `forward` is the only thing that is compiled and
    wrapped.

    Attributes:
        student: the network that is trained, evaluated and shipped.
        objective: what it learns from, with its stages.
    """

    student: Tapped
    objective: Objective
    trains: str = "student"
    """What a recipe calls the network that is trained: the student, or the teacher that is trained first."""
    composed: bool = False
    """Whether the student is a composite that was built for this training, around the recipe's network."""
    others: ClassVar[str] = "others"
    """What results call the other networks of `further`: `peers`, `exits`."""

    @abstractmethod
    def teach(self, batch: Batch) -> Any:
        """What the batch's teachers say; handed on to `forward`."""

    @abstractmethod
    def forward(self, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        """The losses of one batch: `loss`, and each term under its name."""

    def lessons(self) -> list[Lesson]:
        """Who learns from whom by which terms, in the stage that runs."""
        return []

    def cautions(self, steps: int) -> list[str]:
        """What will work and hardly be meant, in a training of so many steps."""
        return []

    def further(self) -> dict[str, nn.Module]:
        """Networks beside the student that are asked about the test set: input -> `Knowledge`."""
        return {}

    def kept(self) -> dict[str, nn.Module]:
        """Networks beside the student whose weights are written beside its own, by the names of the files."""
        return {}

    def enter(self, stage: int) -> None:
        """Let a stage of the objective run."""
        self.objective.enter(stage)

    def parts(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Named groups of parameters, each with its own optimiser; the default is one part."""
        return {"student": [(n, p) for n, p in self.named_parameters() if p.requires_grad]}

    def active(self, step: int) -> Iterable[str] | None:
        """The parts that step number `step` updates; None for all of them."""
        return None

    def place(self, runtime: "Runtime") -> None:
        """Move all that the scheme owns, teachers included, to where the training runs."""
        runtime.place(self, self.trains, learns=True)

    @property
    def looks_ahead(self) -> bool:
        """Whether `teach` may be asked about coming batches, several at a time."""
        return False

    def before_step(self, epoch: float) -> None:
        """Called before each step with the epochs done, with its fraction."""
        self.objective.before_step(epoch)

    def after_step(self) -> None:
        """Called after each optimiser step."""

    def close(self) -> None:
        """Take the taps off the networks that were given, when all is over."""
        self.student.close()

    def teacher_state(self) -> dict[str, Tensor]:
        """What the teachers remember, for the training state."""
        return {}

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `teacher_state` gave."""


class Kind(Scheme):
    """A scheme that a recipe names by `name` and `kind`: a file in `schemes/online` or `schemes/own`.

    It is built as `Class(student, objective, setting, **options)`; its options are the keyword-only arguments
    of its constructor.
    """

    paper: ClassVar[str] = ""
    """Authors, year, title and link, in one line."""
    aliases: ClassVar[tuple[str, ...]] = ()
    """Other names that a recipe may use."""
    reads_layers: ClassVar[bool] = False
    """Whether terms may compare layers, and not only responses."""
    needs_terms: ClassVar[bool] = True
    """Whether it teaches by terms of the objective that compare with a teacher, so that one must be there."""
    hard_targets: ClassVar[bool] = False
    """True when it needs class indices, so mixed targets are refused when the recipe is checked."""
    published: ClassVar[Mapping[str, object]] = {}
    """The objective and options that the paper uses, for the scheme's card."""

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """What is set up from a probe: each learner, its objective, and one whom it learns from."""
        return [(self.student, self.objective, Speaking(self.student))]

    @classmethod
    def together(cls, options: Mapping[str, Any]) -> int:
        """How many networks such as the student are built, it included, where a recipe does not say."""
        return 1

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """See whether options are in range.

        Raises:
            ValueError: one is not.
        """

    @classmethod
    def looks_up(cls, options: Mapping[str, Any]) -> bool:
        """Whether it looks at samples, or views of samples, that a batch does not hold."""
        return False

    @classmethod
    def compose(cls, student: Tapped, setting: Setting, **options: Any) -> nn.Module:
        """The network that is trained and shipped: the plain student, or a composite around it."""
        return student.model
