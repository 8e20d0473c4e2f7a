"""Hints: the student's inner layer predicts the teacher's.

A. Romero, N. Ballas, S. Ebrahimi Kahou, A. Chassang, C. Gatta, Y. Bengio, FitNets: Hints for Thin Deep Nets,
ICLR 2015, https://arxiv.org/abs/1412.6550.

    L = Σ_pairs mean( (r(F_s) − F_t)² )

with r a regressor that is learned along with the student and thrown away after: a 1×1 convolution for maps
[B, C, H, W], a linear layer for vectors [B, D] and tokens [B, L, D].

Conventions. The mean is over all elements (the field's; the paper has half the sum); several pairs add up.
Where two maps differ in size, the larger is average-pooled to the smaller, before the regressor. The paper
asks that the regressor end in the teacher's non-linearity: `activation: auto` ends it in a ReLU where the
teacher's feature is never negative on the probe batch. `normalize: true` puts a BatchNorm before it: that is
the regressor of the CIFAR collections, with which the published weight 100 goes; it is off by default because
the loss is then no longer a mean over samples, so that a batch in parts or on several processes gives another
loss than in one. Half precision: the regressor follows autocast, the difference is computed in float32.

Published: weight 100 beside 1 · cross-entropy on CIFAR-100 (Tian et al. 2020, https://arxiv.org/abs/1910.10699),
one pair in the middle of the networks. The paper itself trains the hint first, by itself, then distils.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import linear
from limbeck.methods._maps import mean_squares, same_size
from limbeck.methods._parts import check_choice, check_set_up, check_switch, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["Hint", "hint"]


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of a regressed student feature and the teacher's.

    Args:
        student: [B, ..., C] or [B, C, H, W], already of the teacher's width.
        teacher: the same; for maps, H and W may differ: the larger map is average-pooled to the smaller.

    Returns:
        A scalar >= 0, mean over all elements.

    Raises:
        ValueError: the shapes do not belong together.
    """
    return mean_squares("hint", student, teacher)


class Hint(Method):
    """Mean squared error between the teacher's features and the student's behind a regressor.

    Args:
        normalize: put a BatchNorm after the regressor's linear part, as the CIFAR collections do.
        activation: how the regressor ends: `relu`, `none`, or `auto`, a ReLU where the teacher's feature is
            never negative on the probe batch.

    Raises:
        ValueError: an option is out of range; in `setup`, features that a regressor cannot bring together.
    """

    paper = (
        "Romero, Ballas, Kahou, Chassang, Gatta, Bengio (2015), FitNets: Hints for Thin Deep Nets, "
        "https://arxiv.org/abs/1412.6550"
    )
    aliases = ("fitnet",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    prefers = "middle"
    published: ClassVar[Mapping[str, object]] = {"weight": 100.0, "normalize": True}

    def __init__(self, normalize: bool = False, activation: Literal["auto", "relu", "none"] = "auto") -> None:
        super().__init__()
        self.normalize = check_switch("normalize", normalize)
        self.activation = check_choice("activation", activation, ("auto", "relu", "none"))
        self.regressors = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        self.regressors = nn.ModuleList(
            self._regressor(ours, theirs, probe.generator)
            for ours, theirs in paired("hint", probe.student, probe.teacher)
        )

    def _regressor(self, ours: Tensor, theirs: Tensor, generator: torch.Generator) -> nn.Sequential:
        """Linear part, BatchNorm on request, and the teacher's non-linearity."""
        maps = ours.ndim == 4
        comparable = ours.ndim == theirs.ndim and 2 <= ours.ndim <= 4
        if not comparable or (not maps and ours.shape[:-1] != theirs.shape[:-1]):
            raise ValueError(
                "hint needs two maps [B, C, H, W], two vectors [B, D], or two rows of tokens [B, L, D] of "
                f"one length; got student {list(ours.shape)} and teacher {list(theirs.shape)}"
            )
        if self.normalize and ours.ndim == 3:
            raise ValueError("hint: normalize: true is for maps and vectors, not for tokens [B, L, D]")
        axis = 1 if maps else -1
        width = theirs.shape[axis]
        parts: list[nn.Module] = [linear(ours.shape[axis], width, generator, maps=maps)]
        if self.normalize:
            parts.append(nn.BatchNorm2d(width) if maps else nn.BatchNorm1d(width))
        if self.activation == "relu" or (self.activation == "auto" and bool((theirs >= 0).all())):
            parts.append(nn.ReLU())
        return nn.Sequential(*parts).to(device=ours.device, dtype=widen(ours).dtype)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("hint", student, teacher)
        check_set_up("hint", len(self.regressors), len(pairs))
        losses = []
        for regressor, pair in zip(self.regressors, pairs, strict=True):
            ours, theirs = same_size(*pair)
            losses.append(hint(regressor(widen(ours)), theirs))
        return torch.stack(losses).sum()
