"""Where knowledge comes from: `Teacher`."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Teacher"]


class Teacher(ABC):
    """Answers batches.

    On purpose not an `nn.Module`: nobody's `.train()`, `.parameters()`, DDP or EMA can reach it.

    Attributes:
        steady: its answer depends on a batch's pixels alone, whenever and beside whatever it is asked.
    """

    steady = False

    @abstractmethod
    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        """The teacher's answer; with `differentiable`, gradients flow to the batch's input."""

    def place(self, runtime: "Runtime") -> None:
        """Go to where the training runs; called once, before the first step."""

    def state(self) -> dict[str, Tensor]:
        """What changes while training; empty for a frozen teacher."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def after_step(self, student: nn.Module) -> None:
        """Called after each optimiser step, with the student's network."""
