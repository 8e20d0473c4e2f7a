"""Reverse divergence at every token: the student keeps to what the teacher finds likely.

Y. Gu, L. Dong, F. Wei, M. Huang, MiniLLM: Knowledge Distillation of Large Language Models, ICLR 2024,
https://arxiv.org/abs/2306.08543.

    L = mean over tokens of KL( q ‖ p ),    p = softmax(z_t), q = softmax(z_s)

Conventions. The mean is over all tokens that count, of all sequences together: a long sequence weighs more
than a short one. There is no temperature. Half precision is computed in float32.

The class takes the mask from the batch's `attention_mask`, where its input holds one, else from labels of the
tokens (−1 does not count), else every position counts; logits [B, C] are B positions. Both networks must read
the same tokens by the same vocabulary. Beware of batches in parts, or on several processes, with unequal
numbers of tokens: each part is a mean of its own.

The paper minimises the reverse divergence of whole sequences that the student writes, by policy gradient;
this is its token-wise form on given sequences. It seeks a mode of the teacher, and on its own it makes the
student less varied.
"""

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import taught
from limbeck.methods._tokens import divergence, log_shares, mask_of, mean_over_tokens
from limbeck.methods.base import Method

__all__ = ["TokenReverseKL", "token_reverse_kl"]


def token_reverse_kl(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence from student to teacher at each token.

    Args:
        student_logits: [..., V], usually [B, L, V].
        teacher_logits: the same positions and vocabulary.
        mask: [...], not zero where a token counts; None: all do.

    Returns:
        A scalar >= 0, mean over the tokens that count; zero where none does.

    Raises:
        ValueError: positions, vocabularies or mask do not belong together.
    """
    student, teacher = log_shares("token_reverse_kl", student_logits, teacher_logits, mask)
    return mean_over_tokens(divergence(student, teacher), mask)


class TokenReverseKL(Method):
    """Divergence from student to teacher at each token (after Gu et al. 2024)."""

    paper = (
        "Gu, Dong, Wei, Huang (2024), MiniLLM: Knowledge Distillation of Large Language Models (here token "
        "by token), https://arxiv.org/abs/2306.08543"
    )
    minimum = 0.0

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        theirs = taught("token_reverse_kl", teacher).logits
        return token_reverse_kl(student.logits, theirs, mask_of(student.logits, batch))
