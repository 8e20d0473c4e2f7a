"""Where knowledge comes from: `Teacher`."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.taps import Tapped

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Speaker", "Speaking", "Teacher"]


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


class Speaker(Protocol):
    """A teacher that is one network: what a probe may look at."""

    @property
    def network(self) -> Tapped:
        """The network."""

    @property
    def classes(self) -> Tensor | None:
        """Which of its logits belong to the data's classes; None: all."""

    def __call__(self, batch: Batch) -> Knowledge:
        """Its answer."""


class Speaking:
    """A network that is taught itself, as a `Speaker`: a peer, or the student in its own eyes."""

    classes: Tensor | None = None

    def __init__(self, network: Tapped) -> None:
        self.network = network

    def __call__(self, batch: Batch) -> Knowledge:
        """Its answer in eval mode, without gradient; it is left in the mode that it was in."""
        training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                answer: Knowledge = self.network(batch.input)
        finally:
            self.network.train(training)
        return answer
