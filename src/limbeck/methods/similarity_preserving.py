"""Similarity-preserving distillation: samples that are alike to the teacher are alike to the student.

F. Tung, G. Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019, https://arxiv.org/abs/1907.09682.

    L = (1/B²) ‖ Ĝ_s − Ĝ_t ‖²_F,    G = Q Qᵀ,    Ĝ_i: = G_i: / ‖G_i:‖

with Q the features, one flattened row for each sample, so that G holds the products of all samples with each
other, and each of its rows is brought to length 1.

Conventions. The sum over all entries is divided by B². Maps are flattened whole, places and channels, as both
sides' samples are compared among themselves only: neither widths nor sizes need agree. A sample whose
features are all zero has a row of zeros, which gets no gradient. Several pairs of features add up. Rows of
all processes are compared. Half precision is computed in float32.

Published: weight 3000 beside 1 · cross-entropy on CIFAR-100, the last map (the protocol of Tian et al. 2020,
https://arxiv.org/abs/1910.10699).

Beware. The loss depends on which samples are in a batch together: parts of a batch see fewer pairs. A row's
entries shrink as 1/√B, so the loss does as 1/B: the weight goes with a batch of 64.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import paired
from limbeck.methods._relations import directions, rows, unscaled
from limbeck.methods.base import Method

__all__ = ["SimilarityPreserving", "similarity_preserving"]


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared difference of the row-normalised similarity matrices of a batch.

    Args:
        student: [B, ...]; anything beyond the first axis is flattened.
        teacher: [B, ...], of any shape.

    Returns:
        A scalar >= 0, mean over all B² pairs of samples.

    Raises:
        ValueError: the two do not hold the same samples.
    """
    ours, theirs = rows("similarity_preserving", student, teacher)
    return (_similarities(ours) - _similarities(theirs)).square().mean()


def _similarities(x: Tensor) -> Tensor:
    x = unscaled(x)
    # Autocast would compute the products in half precision.
    with torch.autocast(x.device.type, enabled=False):
        return directions(x @ x.mT)


class SimilarityPreserving(Method):
    """Similarities between the samples of a batch, as the teacher has them (Tung and Mori 2019)."""

    paper = (
        "Tung, Mori (2019), Similarity-Preserving Knowledge Distillation, https://arxiv.org/abs/1907.09682"
    )
    aliases = ("sp",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 3000.0}

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("similarity_preserving", student, teacher)
        return torch.stack([similarity_preserving(*everyones(*pair)) for pair in pairs]).sum()
