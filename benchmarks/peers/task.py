"""What every side computes: the networks, their weights, the batches and the recipe."""

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck import Batch, weights
from limbeck.data.base import Request
from limbeck.data.cifar import load_cifar
from limbeck.data.samples import TensorSamples
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD
from limbeck.students.cifar import resnet20, resnet56
from limbeck.students.small import mlp

__all__ = ["LABELS", "MEAN", "SGD", "STD", "TEMPERATURE", "Task", "images_task", "tiny_task"]

LABELS, TEMPERATURE = 0.1, 4.0
"""The loss: LABELS · cross-entropy + (1 - LABELS) · T² · KL(teacher, student), mean over the batch."""

SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
"""Decay on all parameters, and the same rate in every step."""

MEAN, STD = IMAGENET_MEAN, IMAGENET_STD
"""Statistics that the published teacher was trained with."""

TEACHER_WEIGHTS = "resnet56-4bfd9763.th"
SAMPLES, BATCHES = 4096, 4


@dataclass(frozen=True)
class Task:
    """One comparison.

    Attributes:
        name: for the table.
        teacher: in eval mode.
        student: with the weights that all sides start from.
        batches: gone through again and again; images are normalised already.
        samples: where the batches come from, in order, for the sides that use a loader; None: no such side.
    """

    name: str
    teacher: nn.Module
    student: nn.Module
    batches: list[Batch]
    samples: TensorSamples | None = None

    @property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The batches as images and labels."""
        found = []
        for batch in self.batches:
            assert isinstance(batch.input, Tensor)
            assert batch.target is not None
            found.append((batch.input, batch.target))
        return found

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """A teacher in eval mode and a student in train mode of the caller's own."""
        return copy.deepcopy(self.teacher).eval(), copy.deepcopy(self.student).train()


def _keys(index: Tensor) -> Tensor:
    """Where each sample of a batch comes from, for answers that are looked up: view 0, in its own place."""
    return torch.stack([index, torch.zeros_like(index), index], 1)


def images_task(batch: int = 128) -> Task:
    """ResNet-56 teaches ResNet-20 on CIFAR-10.

    Real images and the published teacher where LIMBECK_DATA is set, else random ones of the same shapes.
    """
    torch.manual_seed(0)
    teacher, student = resnet56(shortcut="pad"), resnet20(shortcut="pad")
    real = os.environ.get("LIMBECK_DATA")
    if real:
        train = load_cifar(Request("cifar10")).train
        assert isinstance(train, TensorSamples)
        samples = train.subset(range(SAMPLES))
        weights.load(teacher, Path(real).expanduser() / "weights" / TEACHER_WEIGHTS, where="teacher")
    else:
        names = tuple(str(number) for number in range(10))
        images = torch.randint(0, 256, (SAMPLES, 3, 32, 32), dtype=torch.uint8)
        samples = TensorSamples(images=images, targets=torch.randint(0, 10, (SAMPLES,)), classes=names)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    batches = []
    for number in range(BATCHES):
        index = torch.arange(number * batch, (number + 1) * batch)
        images = (samples.images[index] / 255 - mean) / std
        batches.append(
            Batch(images, samples.targets[index], index, torch.zeros_like(index), keys=_keys(index))
        )
    if not real:
        _settle(teacher, batches[0])
    kind = "CIFAR-10" if real else "random images"
    return Task(f"ResNet-56 to ResNet-20, batch {batch}, {kind}", teacher.eval(), student, batches, samples)


def tiny_task(batch: int = 64) -> Task:
    """Networks so small that what is measured is everything but their arithmetic."""
    torch.manual_seed(0)
    teacher, student = mlp((8, 8), width=64), mlp((8, 8), width=16)
    batches = []
    for number in range(BATCHES):
        index = torch.arange(number * batch, (number + 1) * batch)
        images, targets = torch.rand(batch, 1, 8, 8), torch.randint(0, 10, (batch,))
        batches.append(Batch(images, targets, index, torch.zeros_like(index), keys=_keys(index)))
    return Task(f"mlp of 64 to mlp of 16 units, batch {batch}", teacher.eval(), student, batches)


def _settle(network: nn.Module, batch: Batch) -> None:
    """BatchNorm statistics of a random network, without which its answers would be astronomical."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(batch.input)
    for norm in norms:
        norm.momentum = 0.1
