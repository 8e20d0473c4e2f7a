"""Data-distortion guided self-distillation: two views of each sample learn from each other.

T.-B. Xu, C.-L. Liu, Data-Distortion Guided Self-Distillation for Deep Neural Networks, AAAI 2019,
https://ojs.aaai.org/index.php/AAAI/article/view/4498.

    L = ½·[ L(a ← b) + L(b ← a) + μ·‖ mean f(a) − mean f(b) ‖² ]

a and b are two views of one batch, in one pass; L is the recipe's objective, CE + λ·T²·KL, in which the other
view's answer is a target and takes no gradient. The last term is the linear maximum mean discrepancy of what
enters the classifier, with means over the whole batch of all processes, and teaches both sides. Published:
λ = 1, μ = 1e-4 to 5e-4; L is halved here, so that labels weigh as much as they do for the control.

The other view is the same pass seen with another seed, so it needs augmentation (`data.views`).
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.layers import Layers
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_number, widen
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._samples import Taking
from limbeck.taps import Tapped

__all__ = ["Distortion", "mean_discrepancy"]

OTHER = 0x64697374
"""Makes another seed of a seed."""


def mean_discrepancy(one: Tensor, other: Tensor) -> Tensor:
    """The squared distance of the means of two sets of features, each [B, D]; a scalar >= 0."""
    return (widen(one).mean(0) - widen(other).mean(0)).square().sum()


class Distortion(Taking):
    """The teacher is its own answer to another view of the same sample.

    Args:
        discrepancy: μ, the weight of the distance of both views' mean features, at least 0.
    """

    paper = (
        "Xu, Liu (2019), Data-Distortion Guided Self-Distillation for Deep Neural Networks, AAAI, "
        "https://ojs.aaai.org/index.php/AAAI/article/view/4498"
    )
    aliases = ("ddgsd",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 3.0}},
        "discrepancy": 5e-4,
    }
    who = "its answer to another view"

    def __init__(
        self, student: Tapped, objective: Objective, setting: Setting, *, discrepancy: float = 5e-4
    ) -> None:
        super().__init__(_reading(student, setting.probe) if discrepancy else student, objective, setting)
        self.discrepancy = check_number("discrepancy", discrepancy, least=0)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """A weight of at least 0."""
        check_number("discrepancy", options.get("discrepancy", 0.0), least=0)

    def cautions(self, steps: int) -> list[str]:
        """That both views are one."""
        few = np.arange(min(8, len(self._samples)), dtype=np.int64)
        one, other = (self._samples.take(few, 0, seed).input for seed in (self._seed, self._seed ^ OTHER))
        if not (isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)):
            return []
        return ["scheme: distortion compares two views of a sample, and without data.views both are the same"]

    def teach(self, batch: Batch) -> Batch:
        """The other view of the batch."""
        index, view = self.numbers(batch)
        return self.taken(index, view, self._seed ^ OTHER)

    def forward(self, batch: Batch, teaching: Batch) -> dict[str, Tensor]:
        assert isinstance(batch.input, Tensor)
        assert isinstance(teaching.input, Tensor)
        both: Knowledge = self.student(torch.cat([batch.input, teaching.input]))
        count = len(batch.input)
        one, other = Knowledge(both.logits[:count]), Knowledge(both.logits[count:])
        there = self.learnt(one, other.detach(), batch)
        back = self.learnt(other, one.detach(), batch)
        losses = {name: (value + back[name]) / 2 for name, value in there.items()}
        if self.discrepancy:
            mine, theirs = everyones(both.features[0][:count], both.features[0][count:])
            losses["discrepancy"] = mean_discrepancy(mine, theirs)
            losses["loss"] = losses["loss"] + self.discrepancy / 2 * losses["discrepancy"]
        return losses


def _reading(student: Tapped, probe: Batch) -> Tapped:
    """The student, with what enters its classifier read as well.

    Raises:
        InputError: it has no linear layer that takes one vector for each sample.
    """
    try:
        tap = Layers(student, probe).embedding()
    except InputError as error:
        raise InputError(
            f"scheme: distortion compares what enters the classifier: {error} Or leave it out, "
            "scheme.discrepancy: 0."
        ) from error
    return Tapped(student.model, (tap,), student.adapter, who=student.who)
