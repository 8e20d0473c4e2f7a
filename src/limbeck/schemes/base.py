"""Who teaches whom: `Scheme`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from limbeck.knowledge import Batch
from limbeck.taps import Tapped

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Scheme"]


class Scheme(nn.Module, ABC):
    """Owns the student and every learned part that is not the student.

    `teach` runs outside compile and process wrapping; `forward` is the only thing that is compiled and
    wrapped.
    """

    student: Tapped
    trains: str = "student"
    """What a recipe calls the network that is trained: the student, or the teacher that is trained first."""

    @abstractmethod
    def teach(self, batch: Batch) -> Any:
        """What the batch's teachers say; handed on to `forward`."""

    @abstractmethod
    def forward(self, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        """The losses of one batch: `loss`, and each term under its name."""

    def parts(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Named groups of parameters, each with its own optimiser; the default is one part."""
        return {"student": [(n, p) for n, p in self.named_parameters() if p.requires_grad]}

    def active(self, step: int) -> Iterable[str] | None:
        """The parts that step number `step` updates; None for all of them."""
        return None

    def place(self, runtime: "Runtime") -> None:
        """Move all that the scheme owns, teachers included, to where the training runs."""

    @property
    def looks_ahead(self) -> bool:
        """Whether `teach` may be asked about coming batches, several at a time."""
        return False

    def before_step(self, epoch: float) -> None:
        """Called before each step with the epochs done, with its fraction."""

    def after_step(self) -> None:
        """Called after each optimiser step."""

    def teacher_state(self) -> dict[str, Tensor]:
        """What the teachers remember, for the training state."""
        return {}

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `teacher_state` gave."""
