"""A teacher that was asked before: its answers are read, and its network is not run."""

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.teachers.base import Teacher

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Answers", "Cached"]


class Answers(Protocol):
    """Where answers lie: `limbeck.cache.Replay`."""

    def take(self, keys: Tensor) -> Knowledge:
        """The answers in float32 on the CPU to samples with these keys, [B, 3] (see `Batch.keys`)."""


class Cached(Teacher):
    """Replays answers that a teacher gave to the same views of the same samples.

    Args:
        answers: where they lie.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self._device = torch.device("cpu")

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        if differentiable:
            raise InputError("teacher.cache: no gradient passes through stored answers; give cache: never.")
        if batch.keys is None:
            raise InputError(
                "teacher.cache: this batch does not say which views of which samples it holds; stored "
                "answers are for the batches of limbeck.data.Loader."
            )
        answer = self.answers.take(batch.keys)
        return answer if self._device.type == "cpu" else self._moved(answer)

    def _moved(self, answer: Knowledge) -> Knowledge:
        """On the device, without waiting for it."""

        def move(value: Tensor) -> Tensor:
            value = value.pin_memory() if self._device.type == "cuda" else value
            return value.to(self._device, non_blocking=True)

        return Knowledge(move(answer.logits), tuple(move(feature) for feature in answer.features))

    def place(self, runtime: "Runtime") -> None:
        self._device = runtime.device
