"""Probabilistic knowledge transfer: which samples are near which, as a distribution for each sample.

N. Passalis, A. Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018,
https://arxiv.org/abs/1803.10837.

    L = (1/B²) Σ_i Σ_j q(j|i) · log( (q(j|i) + ε) / (p(j|i) + ε) )
    p(j|i) = k(x_i, x_j) / Σ_j k(x_i, x_j),    k(a, b) = ( cos(a, b) + 1 ) / 2

with p of the student and q of the teacher.

Conventions. The sum is divided by B², not by B: that is why the published weight is as large as it is. A
sample is among its own neighbours. ε = 1e-7 here and, added to the length, in the cosine; a sample whose
features are all zero has cosine 0 with every other and gets no gradient. Because of ε the loss may fall below
zero, by less than 1e-7. Several pairs of features add up. Rows of all processes are compared. Half precision
is computed in float32.

Published: weight 30000 beside 1 · cross-entropy on CIFAR-100, on the features before the classifier (the
protocol of Tian et al. 2020, https://arxiv.org/abs/1910.10699).

Beware. The loss depends on which samples are in a batch together: parts of a batch see fewer pairs. It
shrinks about as 1/B²: the weight goes with a batch of 64.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import paired
from limbeck.methods._relations import LEAST, rows
from limbeck.methods.base import Method

__all__ = ["ProbabilisticTransfer", "probabilistic_transfer"]

_EPSILON = 1e-7


def probabilistic_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence between the neighbourhoods that teacher and student give each sample.

    Args:
        student: [B, ...]; anything beyond the first axis is flattened.
        teacher: [B, ...], of any width.

    Returns:
        A scalar, >= 0 but for ε, mean over all B² pairs of samples.

    Raises:
        ValueError: the two do not hold the same samples.
    """
    ours, theirs = (_neighbours(x) for x in rows("probabilistic_transfer", student, teacher))
    return (theirs * ((theirs + _EPSILON).log() - (ours + _EPSILON).log())).mean()


def _neighbours(x: Tensor) -> Tensor:
    """Row i is the distribution over the neighbours of sample i, [B, B]."""
    # Each row by its largest entry, whose square neither overflows nor vanishes; ε shrinks along.
    largest = x.detach().abs().amax(1, keepdim=True)
    known = largest > LEAST
    largest = torch.where(known, largest, 1.0)
    x = torch.where(known, x / largest, 0.0)
    x = x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + _EPSILON / largest)
    # Autocast would compute the products in half precision.
    with torch.autocast(x.device.type, enabled=False):
        cosines = x @ x.mT
    # Rounding puts the cosine of opposite vectors below −1.
    kernel = ((cosines + 1) / 2).clamp(min=0)
    return kernel / kernel.sum(1, keepdim=True)


class ProbabilisticTransfer(Method):
    """Neighbourhoods of the samples of a batch, as the teacher has them (Passalis and Tefas 2018)."""

    paper = (
        "Passalis, Tefas (2018), Learning Deep Representations with Probabilistic Knowledge Transfer, "
        "https://arxiv.org/abs/1803.10837"
    )
    aliases = ("pkt",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 30000.0}
    prefers = "embedding"

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("probabilistic_transfer", student, teacher)
        return torch.stack([probabilistic_transfer(*everyones(*pair)) for pair in pairs]).sum()
