"""Total variation at every token: half the absolute difference of the two distributions.

Y. Wen, Z. Li, W. Du, L. Mou, f-Divergence Minimization for Sequence-Level Knowledge Distillation, ACL 2023,
https://arxiv.org/abs/2307.15190.

    L = mean over tokens of ½ Σ_v |p_v − q_v|,    p = softmax(z_t), q = softmax(z_s)

Conventions. The mean is over all tokens that count, of all sequences together: a long sequence weighs more
than a short one. There is no temperature. Half precision is computed in float32.

The class takes the mask from the batch's `attention_mask`, where its input holds one, else from labels of the
tokens (−1 does not count), else every position counts; logits [B, C] are B positions. Both networks must read
the same tokens by the same vocabulary. Beware of batches in parts, or on several processes, with unequal
numbers of tokens: each part is a mean of its own.

Symmetric and at most 1. Its gradient vanishes where the student is certain of a wrong token, so it is weak at
the start of a training from scratch, and it does not fade as the two come close.
"""

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import taught
from limbeck.methods._tokens import log_shares, mask_of, mean_over_tokens
from limbeck.methods.base import Method

__all__ = ["TokenTotalVariation", "token_total_variation"]


def token_total_variation(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Half the absolute difference of the two distributions at each token.

    Args:
        student_logits: [..., V], usually [B, L, V].
        teacher_logits: the same positions and vocabulary.
        mask: [...], not zero where a token counts; None: all do.

    Returns:
        A scalar in [0, 1], mean over the tokens that count; zero where none does.

    Raises:
        ValueError: positions, vocabularies or mask do not belong together.
    """
    student, teacher = log_shares("token_total_variation", student_logits, teacher_logits, mask)
    return mean_over_tokens((teacher.exp() - student.exp()).abs().sum(-1) / 2, mask)


class TokenTotalVariation(Method):
    """Total variation between student and teacher at each token (Wen et al. 2023)."""

    paper = (
        "Wen, Li, Du, Mou (2023), f-Divergence Minimization for Sequence-Level Knowledge Distillation, "
        "https://arxiv.org/abs/2307.15190"
    )
    minimum = 0.0

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        theirs = taught("token_total_variation", teacher).logits
        return token_total_variation(student.logits, theirs, mask_of(student.logits, batch))
