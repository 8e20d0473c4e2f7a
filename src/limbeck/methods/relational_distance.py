"""Relational knowledge distillation, distances: the student's samples lie as far apart as the teacher's.

W. Park, D. Kim, Y. Lu, M. Cho, Relational Knowledge Distillation, CVPR 2019, https://arxiv.org/abs/1904.05068.

    L = (1/B²) Σ_i Σ_j h( d_s(i, j) / μ_s − d_t(i, j) / μ_t ),    d(i, j) = |x_i − x_j|

with μ the mean of a network's own distances between two different samples of the batch, so that the scales
of the two networks do not matter, and h the Huber loss: x²/2 up to |x| = 1, |x| − 1/2 beyond.

Conventions. The mean is over all B² pairs, a sample with itself included; μ is over the B(B − 1) others, and
the gradient flows through the student's. Two equal samples are at distance 0 and give each other no gradient;
where all samples are equal all distances count as 0. Several pairs of features add up. Rows of all processes
are compared. Half precision is computed in float32.

Published: weight 25, together with 50 · `relational_angle`, beside 1 · cross-entropy, on the features before
the classifier; `relational` is both as one term.

Beware. The loss depends on which samples are in a batch together: parts of a batch see fewer pairs.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import paired
from limbeck.methods._relations import LEAST, rows, unscaled
from limbeck.methods.base import Method

__all__ = ["RelationalDistance", "relational_distance"]


def relational_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Huber loss between the distances of all pairs of samples, each side's in units of its own mean.

    Args:
        student: [B, ...]; anything beyond the first axis is flattened.
        teacher: [B, ...], of any width.

    Returns:
        A scalar >= 0, mean over all B² pairs.

    Raises:
        ValueError: the two do not hold the same samples.
    """
    ours, theirs = rows("relational_distance", student, teacher)
    return F.smooth_l1_loss(_distances(ours), _distances(theirs))


def _distances(x: Tensor) -> Tensor:
    """All distances, [B, B], in units of their mean over pairs of different samples."""
    # By differences and not by products: those of near samples would drown in the rounding.
    far = torch.cdist(unscaled(x), unscaled(x), compute_mode="donot_use_mm_for_euclid_dist")
    mean = far.sum() / max(len(x) * (len(x) - 1), 1)
    return far / mean.clamp(min=LEAST)


class RelationalDistance(Method):
    """Distances between the samples of a batch, as the teacher has them (Park et al. 2019)."""

    paper = "Park, Kim, Lu, Cho (2019), Relational Knowledge Distillation, https://arxiv.org/abs/1904.05068"
    aliases = ("rkd_d",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 25.0}
    prefers = "embedding"

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("relational_distance", student, teacher)
        return torch.stack([relational_distance(*everyones(*pair)) for pair in pairs]).sum()
