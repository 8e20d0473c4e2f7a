"""A trained network that answers and never changes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.taps import Tapped
from limbeck.teachers.base import Teacher

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Frozen"]


class Frozen(Teacher):
    """A network in eval mode whose parameters take no gradient, unchanged to the last bit by training.

    Frozen means `requires_grad_(False)` and eval, not a hard-wired `no_grad`: with `differentiable` the
    gradient passes *through* the teacher to its input.

    Args:
        network: the teacher.
        classes: which of its logits belong to the data's classes, in their order; None takes all.
    """

    def __init__(self, network: Tapped, classes: Sequence[int] | None = None) -> None:
        self.network = network
        self.network.requires_grad_(False).eval()
        self.classes: Tensor | None = None if classes is None else torch.tensor(list(classes))

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        if self.network.training:  # somebody outside called .train() on the module that they gave us
            self.network.eval()
        with torch.set_grad_enabled(differentiable):
            answer: Knowledge = self.network(batch.input)
        if self.classes is None:
            return answer
        if int(self.classes.max()) >= answer.logits.shape[-1]:
            raise InputError(
                f"teacher.classes: index {int(self.classes.max())} is out of range; the teacher has "
                f"{answer.logits.shape[-1]} classes."
            )
        return Knowledge(answer.logits[:, self.classes], answer.features)

    def place(self, runtime: "Runtime") -> None:
        """Move to the device, and compile where the run compiles."""
        runtime.place(self.network)
        if self.classes is not None:
            self.classes = self.classes.to(runtime.device)
        if runtime.compile:
            self.network.compile()
