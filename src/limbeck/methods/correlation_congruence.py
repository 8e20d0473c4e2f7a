"""Correlation congruence, in the form of the CIFAR collections: the errors of two samples, multiplied.

B. Peng, X. Jin, J. Liu, S. Zhou, Y. Wu, Y. Liu, D. Li, Z. Zhang, Correlation Congruence for Knowledge
Distillation, ICCV 2019, https://arxiv.org/abs/1904.01802.

    L = mean over pairs (i, j) of  Σ_d δ_i[d] · δ_j[d],    δ_i = | x_i^s − x_i^t |

with x an embedding of the features, of one width on both sides.

Which form. The paper asks that the two networks' matrices of correlations between samples, by a Gaussian
kernel that is expanded into a series, be alike. The form here is another one: the one that the authors gave
to Tian et al. 2020 (https://arxiv.org/abs/1910.10699), with which the field's figures were obtained. There
the pairs are the neighbours in the batch, (1, 2), (2, 3), …, in whatever order the samples came. `neighbours`
is that form. `all`, which the method takes unless it is told otherwise, is the mean over all pairs of
different samples: the mean of the other form over all orders of the batch, with less noise and the same
whatever the order.

Conventions. The mean is over pairs, the sum over the D dimensions. A batch of one sample has no pair and
gives zero. Several pairs of features add up. Rows of all processes are compared. Half precision: the
embeddings follow autocast, the rest is computed in float32.

Published: weight 0.02 beside 1 · cross-entropy on CIFAR-100, on the features before the classifier, each side
embedded by a learned linear layer to 128 dimensions.

Beware. The teacher's embedding is learned as the student's is, so that the two can also agree by getting
small: with a large weight little is learned from the teacher. The loss depends on which samples are in a
batch together.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._layers import linear
from limbeck.methods._parts import check_choice, check_count, check_set_up, flat, paired
from limbeck.methods._relations import rows
from limbeck.methods.base import Method, Probe

__all__ = ["CorrelationCongruence", "correlation_congruence"]


def correlation_congruence(
    student: Tensor, teacher: Tensor, *, compare: Literal["neighbours", "all"] = "neighbours"
) -> Tensor:
    """Product of the absolute errors of two samples, mean over pairs of samples.

    Args:
        student: [B, ...]; anything beyond the first axis is flattened.
        teacher: [B, ...], of the student's width.
        compare: the pairs: `neighbours` in the batch, or `all` pairs of different samples.

    Returns:
        A scalar >= 0, mean over pairs, sum over dimensions.

    Raises:
        ValueError: the two do not hold the same samples in the same width.
    """
    ours, theirs = rows("correlation_congruence", student, teacher)
    if ours.shape != theirs.shape:
        raise ValueError(
            "correlation_congruence needs features of one width on both sides (or embeddings); "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )
    errors = (ours - theirs).abs()
    if check_choice("compare", compare, ("neighbours", "all")) == "neighbours":
        return (errors[:-1] * errors[1:]).sum() / max(len(errors) - 1, 1)
    # Every sample's error times those of all others: no B × B × D.
    others = errors.sum(0) - errors
    return (errors * others).sum() / max(len(errors) * (len(errors) - 1), 1)


class CorrelationCongruence(Method):
    """Errors of the samples of a batch, multiplied in pairs (after Peng et al. 2019).

    Args:
        dimension: width of the learned embeddings of both sides; None for none, where the two networks'
            features have one width already.
        compare: the pairs of samples: `all`, or `neighbours` in the batch, as the authors' code has it, which
            makes the loss depend on the order of the samples.

    Raises:
        ValueError: an option is out of range; when called, other features than it was set up for.
    """

    paper = (
        "Peng, Jin, Liu, Zhou, Wu, Liu, Li, Zhang (2019), Correlation Congruence for Knowledge Distillation, "
        "https://arxiv.org/abs/1904.01802"
    )
    aliases = ("cc",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 0.02, "dimension": 128, "compare": "neighbours"}
    prefers = "embedding"

    def __init__(self, dimension: int | None = 128, compare: Literal["all", "neighbours"] = "all") -> None:
        super().__init__()
        self.dimension = None if dimension is None else check_count("dimension", dimension)
        self.compare: Literal["all", "neighbours"] = compare
        check_choice("compare", compare, ("all", "neighbours"))
        self.ours = nn.ModuleList()
        self.theirs = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("correlation_congruence", probe.student, probe.teacher)
        self.ours = nn.ModuleList(self._embedding(f, probe.generator) for f, _ in pairs)
        self.theirs = nn.ModuleList(self._embedding(f, probe.generator) for _, f in pairs)

    def _embedding(self, feature: Tensor, generator: torch.Generator) -> nn.Module:
        feature = flat("correlation_congruence", feature)
        if self.dimension is None:
            return nn.Identity()
        layer = linear(feature.shape[1], self.dimension, generator, gain="linear")
        return layer.to(device=feature.device, dtype=feature.dtype)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("correlation_congruence", student, teacher)
        check_set_up("correlation_congruence", len(self.ours), len(pairs))
        losses = []
        for ours, theirs, pair in zip(self.ours, self.theirs, pairs, strict=True):
            one, other = (flat("correlation_congruence", feature) for feature in pair)
            embedded = everyones(ours(one), theirs(other))
            losses.append(correlation_congruence(*embedded, compare=self.compare))
        return torch.stack(losses).sum()
