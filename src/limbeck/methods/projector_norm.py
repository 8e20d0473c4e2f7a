"""A linear projector and normalised representations: a simple recipe for distilling features.

R. Miles, K. Mikolajczyk, Understanding the Role of the Projector in Knowledge Distillation, AAAI 2024,
https://arxiv.org/abs/2303.11098.

    L = log( Σ_n Σ_d | BN(W x_s)[n, d] − BN(x_t)[n, d] |^α )

with x an embedding of each sample, W a linear layer to the teacher's width that is learned with the student,
and BN the normalisation of each dimension over the batch, to mean 0 and variance 1, without weights of its
own. The logarithm of a sum of high powers is a soft maximum: it looks at what fits worst, which the paper
finds to help where the student is much smaller than the teacher.

Conventions. The sum is over samples and dimensions both, and its logarithm is taken once, as in the authors'
code for ResNets on ImageNet; their code for transformers compares correlations instead. The variance is the
sum of squares divided by B, plus 1e-4. 1e-5 is added to the sum in the logarithm, so that the loss is finite
where both sides agree; it can be negative. Maps are averaged over their places and tokens over their row; the
two sides need not be of one kind. Several pairs add up. Rows of all processes are normalised together. Half
precision: the projector follows autocast, the rest is computed in float32.

Published: weight 2 with α = 4 beside 1 · cross-entropy and 1 · kd (T = 1) on ImageNet, ResNet-34 to
ResNet-18, on the averaged last map.

Beware. The loss depends on which samples are in a batch together, so parts of a batch give another one, and
one sample alone gives nothing to learn. Differences that are half as large everywhere lower the loss by
α · log 2 wherever it stands, so its gradient grows as they shrink.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._layers import linear
from limbeck.methods._parts import check_number, check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["ProjectorNorm", "projector_norm"]

VARIANCE, SUM = 1e-4, 1e-5
"""What is added to each variance, and to the sum in the logarithm."""


def projector_norm(student: Tensor, teacher: Tensor, *, alpha: float = 4.0) -> Tensor:
    """Logarithm of the summed powers of the differences of two representations, normalised over the batch.

    Args:
        student: [B, D], behind its projector.
        teacher: [B, D].
        alpha: power of the differences, >= 1.

    Returns:
        A scalar >= log(1e-5), of the sum over samples and dimensions.

    Raises:
        ValueError: the shapes do not belong together, or `alpha` is out of range.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            "projector_norm needs embeddings of one shape [samples, dimensions]; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )
    check_number("alpha", alpha, least=1)
    differences = _normalized(student) - _normalized(teacher)
    return (differences.abs().pow(alpha).sum() + SUM).log()


def _normalized(x: Tensor) -> Tensor:
    centred = widen(x) - widen(x).mean(0)
    return centred * (centred.square().mean(0) + VARIANCE).rsqrt()


class ProjectorNorm(Method):
    """Projected and normalised embeddings against the teacher's, by a soft maximum (Miles, Mikolajczyk 2024).

    Args:
        alpha: power of the differences, >= 1; the higher, the more the worst ones count.

    Raises:
        ValueError: `alpha` is out of range; in `setup`, features that cannot be averaged to embeddings; when
            called, other features than it was set up for.
    """

    paper = (
        "Miles, Mikolajczyk (2024), Understanding the Role of the Projector in Knowledge Distillation, "
        "https://arxiv.org/abs/2303.11098"
    )
    aliases = ("srd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 2.0, "alpha": 4.0}
    prefers = "embedding"

    def __init__(self, alpha: float = 4.0) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, least=1)
        self.projectors = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        self.projectors = nn.ModuleList(
            linear(ours.shape[1], theirs.shape[1], probe.generator, gain="linear").to(
                device=ours.device, dtype=ours.dtype
            )
            for ours, theirs in _embeddings(probe.student, probe.teacher)
        )

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = _embeddings(student, teacher)
        check_set_up("projector_norm", len(self.projectors), len(pairs))
        losses = [
            projector_norm(*everyones(projector(ours), theirs), alpha=self.alpha)
            for projector, (ours, theirs) in zip(self.projectors, pairs, strict=True)
        ]
        return torch.stack(losses).sum()


def _embeddings(student: Knowledge, teacher: Knowledge | None) -> list[tuple[Tensor, Tensor]]:
    """The pairs of features, averaged to [B, D] each."""
    return [(_averaged(a), _averaged(b)) for a, b in paired("projector_norm", student, teacher)]


def _averaged(feature: Tensor) -> Tensor:
    if feature.ndim not in (2, 3, 4):
        raise ValueError(
            "projector_norm needs embeddings [B, D], tokens [B, L, D] or maps [B, C, H, W]; "
            f"got {list(feature.shape)}"
        )
    feature = widen(feature)
    if feature.ndim == 2:
        return feature
    return feature.mean((2, 3)) if feature.ndim == 4 else feature.mean(1)
