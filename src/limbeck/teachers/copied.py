"""A teacher that is a copy of the student, made from time to time."""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.taps import Tapped
from limbeck.teachers.base import Teacher

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Copied"]


class Copied(Teacher):
    """A copy of the student in eval mode, which takes no gradient.

    What it is a copy of, and when, is for classes derived from this one to say; to begin with it is the
    student as it is. Of several processes all have the statistics of the first one's norm layers, whose
    state is what is saved.

    Args:
        student: is copied, with its adapter.
        taps: the layers that terms read of the teacher.
    """

    classes: Tensor | None = None
    """As of a frozen teacher: its logits are all asked for."""

    def __init__(self, student: Tapped, taps: list[str]) -> None:
        model, adapter = copy.deepcopy((student.model, student.adapter))
        # The hooks of the student's taps are copied with it, and read into notes that nobody looks at.
        self.network = Tapped(model, taps, adapter, who="teacher")
        self.network.requires_grad_(False).eval()
        self._runtime: Runtime | None = None

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        with torch.set_grad_enabled(differentiable):
            answer: Knowledge = self.network(batch.input)
        return answer

    def place(self, runtime: "Runtime") -> None:
        runtime.place(self.network)
        self._runtime = runtime

    @torch.no_grad()
    def take(self, student: nn.Module) -> None:
        """Become what the student is now."""
        for mine, theirs in zip(_tensors(self.network.model), _tensors(student), strict=True):
            mine.copy_(theirs)
        self.agree()

    def agree(self) -> None:
        """Give all processes the first one's statistics; called wherever they have changed.

        At once, and not when a state is written: what is taught must not depend on when that is.
        """
        if self._runtime is not None:
            self._runtime.same_buffers(self.network)

    def state(self) -> dict[str, Tensor]:
        """Its weights and statistics."""
        return {f"copy.{name}": value for name, value in self.network.model.state_dict().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        own = {n.removeprefix("copy."): v for n, v in state.items() if n.startswith("copy.")}
        self.network.model.load_state_dict(own)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Parameters and buffers, in the network's order."""
    return [*model.parameters(), *model.buffers()]
