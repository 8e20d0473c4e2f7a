"""Word-level distillation: the teacher's distribution over the next token as the target of every position.

Y. Kim, A. M. Rush, Sequence-Level Knowledge Distillation, EMNLP 2016, https://arxiv.org/abs/1606.07947 (their
word-level distillation).

    L = mean over tokens of KL( p ‖ q ),    p = softmax(z_t), q = softmax(z_s)

Conventions. The mean is over all tokens that count, of all sequences together: a long sequence weighs more
than a short one. There is no temperature. The teacher's entropy is subtracted (KL, not cross-entropy), so
that equal logits give zero; the gradient is the same. Half precision is computed in float32.

The class takes the mask from the batch's `attention_mask`, where its input holds one, else from labels of the
tokens (−1 does not count), else every position counts; logits [B, C] are B positions. Both networks must read
the same tokens by the same vocabulary. Beware of batches in parts, or on several processes, with unequal
numbers of tokens: each part is a mean of its own.

The forward divergence makes the student cover all that the teacher finds likely; a student too small for that
puts probability where the teacher has none (`token_reverse_kl`, `token_skew_kl`).
"""

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import taught
from limbeck.methods._tokens import divergence, log_shares, mask_of, mean_over_tokens
from limbeck.methods.base import Method

__all__ = ["TokenForwardKL", "token_forward_kl"]


def token_forward_kl(student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence from teacher to student at each token.

    Args:
        student_logits: [..., V], usually [B, L, V].
        teacher_logits: the same positions and vocabulary.
        mask: [...], not zero where a token counts; None: all do.

    Returns:
        A scalar >= 0, mean over the tokens that count; zero where none does.

    Raises:
        ValueError: positions, vocabularies or mask do not belong together.
    """
    student, teacher = log_shares("token_forward_kl", student_logits, teacher_logits, mask)
    return mean_over_tokens(divergence(teacher, student), mask)


class TokenForwardKL(Method):
    """The teacher's distribution over the next token as target (Kim and Rush 2016)."""

    paper = (
        "Kim, Rush (2016), Sequence-Level Knowledge Distillation (their word-level distillation), "
        "https://arxiv.org/abs/1606.07947"
    )
    minimum = 0.0

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        theirs = taught("token_forward_kl", teacher).logits
        return token_forward_kl(student.logits, theirs, mask_of(student.logits, batch))
