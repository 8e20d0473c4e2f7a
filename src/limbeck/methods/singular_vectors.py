"""Singular vectors: what a layer's map consists of, and how it goes with the next layer's.

S. H. Lee, D. H. Kim, B. C. Song, Self-supervised Knowledge Distillation using Singular Value Decomposition,
ECCV 2018, https://arxiv.org/abs/1807.06819.

    F_i = U Σ Vᵀ  for each sample's map as a matrix [H·W, C_i]
    R_i[c, d, j] = exp( −(σ_j v_i,j[c] − σ_j v_{i+1,j}[d])² / 8 )
    L = Σ_i (1/B) Σ (R_s,i − R_t,i)²

over each two features that follow each other; the inner sum is over samples, channels c and d, and the k
first right-singular vectors j. Each of the teacher's is compared with the one among the student's k + 3 first
that lies along it best, turned to its side; both are weighted by the teacher's singular values σ, brought to
length 1.

Conventions. A sum over entries, mean over samples; several layers add up. A decomposition leaves the sign of
a vector open, and R depends on it: here the entries of each of the teacher's vectors add up to 0 or more, as
behind a ReLU they do for the first. A map of zeros has σ = 0, and teaches nothing. Vectors are as long as
there are channels. Where the student has another number of them, a learned 1×1 convolution brings it to the
teacher's: the paper's networks need none, the authors' later code has one for each layer. Sizes need not
agree. Half precision: the convolution follows autocast, all else is computed in float32.

The gradient. The vectors' derivative has the differences of squared singular values in its divisors, and is
infinite where two are equal; the authors' code replaces what is not finite by 0. Here a difference below 1e-4
of the sum of all squares counts as one that large, and fades to no gradient at equal values, which leave the
direction open.

Published: k = 1, weight 1 beside 1 · cross-entropy, the last map of every stage. The authors also shorten the
loss's gradient to the length of the cross-entropy's.

Beware. It decomposes a matrix as wide as the smaller of channels and places, for every sample and layer in
each step. That is slow on a GPU, and torch's decomposition has the host wait for it.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import aligned
from limbeck.methods._maps import check_maps
from limbeck.methods._parts import check_count, check_set_up, paired, widen
from limbeck.methods._relations import directions, unscaled
from limbeck.methods.base import Method, Probe

__all__ = ["SingularVectors", "singular_vectors"]

_SPARE = 3
"""How many more of the student's vectors may be the one that lies along the teacher's."""
_CLOSEST = 1e-4
"""Squared singular values, as shares of their sum, whose vectors a step still tells apart."""
_WEAKEST = 1e-3
"""A singular value, as a share of the matrix's length, below which a vector has no length of 1."""


def singular_vectors(student: Sequence[Tensor], teacher: Sequence[Tensor], *, vectors: int = 1) -> Tensor:
    """Squared difference of the radial basis functions of consecutive layers' singular vectors.

    Args:
        student: two maps [B, C_i, H, W] or more, in the order of the layers.
        teacher: as many, each with the same number of channels; H and W may differ. Taken as constants.
        vectors: how many singular vectors of each map are compared, the authors' k.

    Returns:
        A scalar >= 0, mean over samples.

    Raises:
        ValueError: the shapes do not belong together, or a map has fewer singular vectors.
    """
    _check(student, teacher, vectors)
    # Autocast would compute the products in half precision.
    with torch.autocast(student[0].device.type, enabled=False):
        layers = [_aligned(*pair, vectors) for pair in zip(student, teacher, strict=True)]
        losses = [
            (_radial(ours, ours_next) - _radial(theirs, theirs_next)).square().flatten(1).sum(1).mean()
            for (ours, theirs), (ours_next, theirs_next) in pairwise(layers)
        ]
        return torch.stack(losses).sum()


def _check(student: Sequence[Tensor], teacher: Sequence[Tensor], vectors: int) -> None:
    check_maps("singular_vectors", [*student, *teacher])
    if len(student) != len(teacher) or len(student) < 2:
        raise ValueError(
            "singular_vectors compares layers that follow each other, so it needs two maps or more, as many "
            f"of the student as of the teacher; got {len(student)} and {len(teacher)}"
        )
    for ours, theirs in zip(student, teacher, strict=True):
        if ours.shape[:2] != theirs.shape[:2]:
            raise ValueError(
                "singular_vectors needs maps of the same samples and as many channels on both sides; "
                f"got student {list(ours.shape)} and teacher {list(theirs.shape)}"
            )
        if min(theirs.shape[1], theirs[0, 0].numel()) < vectors:
            raise ValueError(
                f"vectors must be no more than a map has channels and places, got {vectors} for the "
                f"teacher's {list(theirs.shape)}"
            )


def _aligned(student: Tensor, teacher: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The student's and the teacher's weighted vectors, [B, C, k] each."""
    values, theirs = _leading(teacher.detach(), count)
    theirs = theirs * _sign(theirs.sum(1, keepdim=True))
    _, ours = _leading(student, count + _SPARE)
    alike = ours.detach().mT @ theirs
    nearest = alike.abs().argmax(1, keepdim=True)
    ours = ours.gather(2, nearest.expand(-1, ours.shape[1], -1)) * _sign(alike.gather(1, nearest))
    weights = directions(values.clamp(min=0).sqrt())[:, None]
    return ours * weights, theirs * weights


def _leading(feature: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest squared singular values [B, k] and their right-singular vectors [B, C, k], in their order.

    Values are shares of their sum and have no gradient.
    """
    matrix = directions(unscaled(widen(feature)).flatten(1)).reshape(*feature.shape[:2], -1)
    wide = matrix.shape[1] > matrix.shape[2]
    products = matrix.mT @ matrix if wide else matrix @ matrix.mT
    values, basis = torch.linalg.eigh(products.detach())
    largest, vectors = values[:, -count:].flip(1), basis[:, :, -count:].flip(2)
    gaps = largest[:, None] - values[:, :, None]
    # Zero in value, and in gradient the first order of how the vectors turn when the matrix changes.
    change = basis.mT @ (products - products.detach()) @ vectors
    vectors = vectors + basis @ (change * gaps / gaps.square().clamp(min=_CLOSEST**2))
    return largest, F.normalize(matrix @ vectors, dim=1, eps=_WEAKEST) if wide else vectors


def _sign(value: Tensor) -> Tensor:
    return torch.where(value < 0, -torch.ones_like(value), 1.0)


def _radial(first: Tensor, second: Tensor) -> Tensor:
    """Of all channels of one layer with all of the next, [B, C, D, k]."""
    return torch.exp((first[:, :, None] - second[:, None]).square() / -8)


class SingularVectors(Method):
    """Singular vectors of layers that follow each other, as in the teacher (Lee et al. 2018).

    Args:
        vectors: how many singular vectors of each map are compared.

    Raises:
        ValueError: `vectors` is out of range; in `setup`, fewer than two pairs, or features that are no maps.
    """

    paper = (
        "Lee, Kim, Song (2018), Self-supervised Knowledge Distillation using Singular Value Decomposition, "
        "https://arxiv.org/abs/1807.06819"
    )
    aliases = ("kdsvd",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 1.0}
    prefers = "stages"

    def __init__(self, vectors: int = 1) -> None:
        super().__init__()
        self.vectors = check_count("vectors", vectors)
        self.widths = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("singular_vectors", probe.student, probe.teacher)
        check_maps("singular_vectors", [feature for pair in pairs for feature in pair])
        self.widths = nn.ModuleList(aligned(*pair, probe.generator) for pair in pairs)
        with torch.no_grad():
            self(probe.student, probe.teacher, probe.batch)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("singular_vectors", student, teacher)
        check_set_up("singular_vectors", len(self.widths), len(pairs))
        ours = [width(widen(f)) for width, (f, _) in zip(self.widths, pairs, strict=True)]
        return singular_vectors(ours, [f for _, f in pairs], vectors=self.vectors)
