"""DIST: the student's answers need only be correlated with the teacher's.

T. Huang, S. You, F. Wang, C. Qian, C. Xu, Knowledge Distillation from A Stronger Teacher, NeurIPS 2022,
https://arxiv.org/abs/2205.10536.

    L = T² · [ β · (1 − mean_n ρ(p_s[n, :], p_t[n, :])) + γ · (1 − mean_c ρ(p_s[:, c], p_t[:, c])) ]

with p = softmax(z/T) and ρ the Pearson correlation: over the classes for every sample (inter-class), and over
the samples of the batch for every class (intra-class).

Conventions. Means over samples and over classes, times T². No epsilon but a floor of 1e-8 under each norm: a
row or column without any spread correlates with nothing, and counts as 1. The second term compares the
samples of a batch with each other: rows of all processes are gathered first, a batch in parts gives another
loss than in one, and a batch of one sample has no such term but a constant. Half precision is computed in
float32.

Published: β = γ = 2, T = 4, weight 1 beside 1 · cross-entropy on CIFAR-100; the authors' code starts from
β = γ = T = 1, the defaults here. Beware of a student that starts from a zero classifier: where its shares
have no spread, their gradient is of the order of 1e8.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_logits, check_number, taught, widen
from limbeck.methods.base import Method

__all__ = ["DIST", "dist"]


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """One minus the correlation of the shares, along the classes and along the samples, times T².

    Args:
        student_logits: [B, C], the samples of all processes.
        teacher_logits: [B, C].
        beta: weight of the correlation over the classes (inter-class).
        gamma: weight of the correlation over the samples (intra-class).
        temperature: T > 0.

    Returns:
        A scalar, 0 (but for rounding) where both are equal, at most 2 · T² · (β + γ).

    Raises:
        ValueError: the shapes differ.
    """
    check_logits("dist", student_logits, teacher_logits)
    student = F.softmax(widen(student_logits) / temperature, dim=1)
    teacher = F.softmax(widen(teacher_logits) / temperature, dim=1)
    inter = 1 - _correlation(student, teacher, axis=1).mean()
    intra = 1 - _correlation(student, teacher, axis=0).mean()
    return (beta * inter + gamma * intra) * temperature**2


def _correlation(a: Tensor, b: Tensor, *, axis: int) -> Tensor:
    """Pearson's, of each pair of vectors along an axis."""
    a, b = a - a.mean(axis, keepdim=True), b - b.mean(axis, keepdim=True)
    return F.cosine_similarity(a, b, dim=axis, eps=1e-8)


class DIST(Method):
    """Correlation of the softened answers instead of their divergence (Huang et al. 2022).

    Args:
        beta: weight >= 0 of the correlation over the classes of a sample.
        gamma: weight >= 0 of the correlation over the samples of a batch.
        temperature: T > 0.

    Raises:
        ValueError: an option is out of range.
    """

    paper = (
        "Huang, You, Wang, Qian, Xu (2022), Knowledge Distillation from A Stronger Teacher, "
        "https://arxiv.org/abs/2205.10536"
    )
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {
        "weight": 1.0,
        "beta": 2.0,
        "gamma": 2.0,
        "temperature": 4.0,
    }

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        self.beta = check_number("beta", beta, least=0)
        self.gamma = check_number("gamma", gamma, least=0)
        self.temperature = check_number("temperature", temperature, above=0)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        ours, theirs = everyones(student.logits, taught("dist", teacher).logits)
        return dist(ours, theirs, beta=self.beta, gamma=self.gamma, temperature=self.temperature)
