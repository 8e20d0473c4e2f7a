"""How much each of several teachers counts: `Weighting`."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.knowledge import UNLABELLED, Batch

__all__ = ["Weighting", "cross_entropies", "even"]


class Weighting(nn.Module, ABC):
    """The weights of several teachers for each sample of a batch.

    A scheme owns one: what it learns is trained with the student. Called without a student's answer (in a
    stage that trains a method's own layers alone), it does what it can without.
    """

    paper: ClassVar[str] = ""
    """Where it comes from."""
    most: ClassVar[int | None] = None
    """The largest number of teachers; None: any."""

    def setup(self, teachers: int, classes: int) -> None:
        """Build what depends on the number of teachers and of classes. Called once, before the first step.

        Raises:
            ValueError: it does not fit so many.
        """

    @abstractmethod
    def forward(self, teachers: Tensor, student: Tensor | None, batch: Batch, temperature: float) -> Tensor:
        """The weights, [B, K] in float32, at least 0, which sum to 1 over the teachers.

        Args:
            teachers: their logits, [B, K, C].
            student: its logits, [B, C], detached; None: it is not asked in this stage.
            batch: what was asked.
            temperature: T of the objective.
        """

    def loss(self, teachers: Tensor, weights: Tensor, batch: Batch) -> Tensor | None:
        """What the weighting's own parameters minimise, a scalar; None: it learns nothing.

        Args:
            teachers: their logits, [B, K, C].
            weights: as `forward` gave them.
            batch: what was asked.
        """
        return None


def even(teachers: Tensor) -> Tensor:
    """The same weight for all: [B, K, C] to [B, K]."""
    return teachers.new_full(teachers.shape[:2], 1 / teachers.shape[1], dtype=torch.float32)


def cross_entropies(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Each teacher's cross-entropy with the labels, and which samples have one.

    Args:
        logits: [B, K, C].
        target: class indices [B] (−1 where not known), or class shares [B, C] (a row of zeros is not known).

    Returns:
        In nats, [B, K], and booleans [B]; what stands where no label is known means nothing.
    """
    logs = logits.float().log_softmax(-1)
    if target.ndim == 1:
        index = target.clamp(min=0)[:, None, None].expand(-1, logs.shape[1], 1)
        return -logs.gather(2, index)[..., 0], target != UNLABELLED
    shares = target.to(logs.dtype)
    return -(logs * shares[:, None]).sum(2), shares.sum(1) > 0
