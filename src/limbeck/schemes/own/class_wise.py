"""Class-wise self-knowledge distillation: a sample follows the answer to another one of its class.

S. Yun, J. Park, K. Lee, J. Shin, Regularizing Class-wise Predictions via Self-knowledge Distillation, CVPR
2020, https://arxiv.org/abs/2003.13964.

    L = CE(z(x), y) + λ·T²·KL( p(x') ‖ p(x) )        x' of the class of x, p at temperature T

The answer to x' is given by the network as it is, in training mode, and takes no gradient. Published: λ = 1,
T = 4. x' is drawn by (seed, sample, view) alone, in the view that the pass shows of it, so a resumed training
and several processes see the same pairs. A sample without a label, or the only one of its class, has no mate:
it follows itself, which is to say that nothing pulls at it, and counts as 0 in the mean.
"""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import draw
from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._samples import Taking
from limbeck.taps import Tapped

__all__ = ["ClassWise", "Mates"]

STREAM = 0x6D61746573
"""Keeps these draws apart from those of views."""


class Mates:
    """Another sample of the class of each.

    Args:
        targets: class of each sample, [N], `UNLABELLED` where it is not known.
        seed: of the draws.
    """

    def __init__(self, targets: NDArray[np.int64], seed: int) -> None:
        self._seed = seed
        self._order = np.argsort(targets, kind="stable")
        _, which, counts = np.unique(targets, return_inverse=True, return_counts=True)
        self._first = (np.cumsum(counts) - counts)[which]
        self._kin = np.where(targets == UNLABELLED, 1, counts[which])
        place = np.empty(len(targets), dtype=np.int64)
        place[self._order] = np.arange(len(targets))
        self._place = place - self._first

    def of(self, index: NDArray[np.int64], view: NDArray[np.int64]) -> tuple[NDArray[np.int64], Tensor]:
        """The mates of some samples [B], uniform among the others of their class.

        Returns:
            Their numbers [B], a sample's own where it has no mate; and which samples have one, [B].
        """
        kin = self._kin[index]
        others = np.maximum(kin - 1, 1).astype(np.uint64)
        drawn = (draw(self._seed, index, view, STREAM) % others).astype(np.int64)
        drawn += drawn >= self._place[index]  # past the sample itself
        has = kin > 1
        found = np.where(has, self._order[self._first[index] + np.where(has, drawn, 0)], index)
        return found, torch.from_numpy(has)


class ClassWise(Taking):
    """The teacher is its own answer to another sample of the same class."""

    paper = (
        "Yun, Park, Lee, Shin (2020), Regularizing Class-wise Predictions via Self-knowledge Distillation, "
        "CVPR, https://arxiv.org/abs/2003.13964"
    )
    aliases = ("cs_kd",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 4.0}}
    }
    who = "its answer to another sample of the class"

    def __init__(self, student: Tapped, objective: Objective, setting: Setting) -> None:
        super().__init__(student, objective, setting)
        self._mates = Mates(self._samples.targets.numpy(), setting.seed)

    def teach(self, batch: Batch) -> tuple[Batch, Tensor]:
        """Another sample of the class of each, and which samples have one, [B]."""
        index, view = self.numbers(batch)
        mates, has = self._mates.of(index, view)
        device = batch.input.device if isinstance(batch.input, Tensor) else None
        return self.taken(mates, view, self._seed), has.to(device)

    def forward(self, batch: Batch, teaching: tuple[Batch, Tensor]) -> dict[str, Tensor]:
        mates, has = teaching
        with torch.no_grad():
            theirs: Knowledge = self.student(mates.input)
        said: Knowledge = self.student(batch.input)
        heard = torch.where(has[:, None], theirs.logits, said.logits.detach())
        return self.learnt(said, Knowledge(heard), batch)
