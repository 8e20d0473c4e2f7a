"""Reverse skew divergence at every token: from the student to a mixture of student and teacher.

J. Ko, S. Kim, T. Chen, S.-Y. Yun, DistiLLM: Towards Streamlined Distillation for Large Language Models, ICML
2024, https://arxiv.org/abs/2402.03898.

    L = mean over tokens of KL( q ‖ (1 − α)·p + α·q ),    p = softmax(z_t), q = softmax(z_s)

Conventions. The mean is over all tokens that count, of all sequences together: a long sequence weighs more
than a short one. There is no temperature. α = 0 is `token_reverse_kl`. The mixture is computed from
logarithms. Half precision is computed in float32.

The class takes the mask from the batch's `attention_mask`, where its input holds one, else from labels of the
tokens (−1 does not count), else every position counts; logits [B, C] are B positions. Both networks must read
the same tokens by the same vocabulary. Beware of batches in parts, or on several processes, with unequal
numbers of tokens: each part is a mean of its own.

Published: α = 0.1. The mixture keeps the divergence below −log α where the teacher gives no probability to
what the student finds likely. The paper's other half, sequences that the student writes, is not in this loss.
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_number, taught
from limbeck.methods._tokens import divergence, log_shares, mask_of, mean_over_tokens, mixture
from limbeck.methods.base import Method

__all__ = ["TokenSkewReverseKL", "token_skew_reverse_kl"]


def token_skew_reverse_kl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor | None = None,
    *,
    skew: float = 0.1,
) -> Tensor:
    """Kullback-Leibler divergence from the student to a mixture of both at each token.

    Args:
        student_logits: [..., V], usually [B, L, V].
        teacher_logits: the same positions and vocabulary.
        mask: [...], not zero where a token counts; None: all do.
        skew: share α in [0, 1) of the student in the mixture.

    Returns:
        A scalar >= 0, mean over the tokens that count; zero where none does.

    Raises:
        ValueError: positions, vocabularies or mask do not belong together.
    """
    student, teacher = log_shares("token_skew_reverse_kl", student_logits, teacher_logits, mask)
    return mean_over_tokens(divergence(student, mixture(student, teacher, skew)), mask)


class TokenSkewReverseKL(Method):
    """Divergence from the student to a mixture of student and teacher (Ko et al. 2024).

    Args:
        skew: share α in [0, 1) of the student in the mixture; 0 is `token_reverse_kl`.

    Raises:
        ValueError: `skew` is out of range.
    """

    paper = (
        "Ko, Kim, Chen, Yun (2024), DistiLLM: Towards Streamlined Distillation for Large Language Models, "
        "https://arxiv.org/abs/2402.03898"
    )
    aliases = ("srkl",)
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"skew": 0.1}

    def __init__(self, skew: float = 0.1) -> None:
        super().__init__()
        self.skew = check_number("skew", skew, least=0, below=1)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        theirs = taught("token_skew_reverse_kl", teacher).logits
        return token_skew_reverse_kl(student.logits, theirs, mask_of(student.logits, batch), skew=self.skew)
