"""Generalised Jensen-Shannon divergence at every token: between the forward and the reverse divergence.

R. Agarwal, N. Vieillard, Y. Zhou, P. Stanczyk, S. Ramos, M. Geist, O. Bachem, On-Policy Distillation of
Language Models: Learning from Self-Generated Mistakes, ICLR 2024, https://arxiv.org/abs/2306.13649.

    L = mean over tokens of β·KL( p ‖ m ) + (1 − β)·KL( q ‖ m ),    m = β·p + (1 − β)·q

with p = softmax(z_t/T) and q = softmax(z_s/T); β = 0 is KL( p ‖ q ) and β = 1 is KL( q ‖ p ).

Conventions. The mean is over all tokens that count, of all sequences together: a long sequence weighs more
than a short one. Both distributions have the temperature, and there is no T². At β = 0 and β = 1 the equation
itself is zero for all answers: there the loss is what it tends to when divided by β or 1 − β, as is the
field's convention; so it jumps there. Half precision is computed in float32.

The class takes the mask from the batch's `attention_mask`, where its input holds one, else from labels of the
tokens (−1 does not count), else every position counts; logits [B, C] are B positions. Both networks must read
the same tokens by the same vocabulary. Beware of batches in parts, or on several processes, with unequal
numbers of tokens: each part is a mean of its own.

The paper uses it on sequences that the student writes itself; which sequences it sees is not up to this loss.
β = 0.5 is the Jensen-Shannon divergence, at most log 2.
"""

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_number, taught
from limbeck.methods._tokens import divergence, log_shares, mask_of, mean_over_tokens, mixture
from limbeck.methods.base import Method

__all__ = ["TokenGeneralizedJSD", "token_generalized_jsd"]


def token_generalized_jsd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor | None = None,
    *,
    beta: float = 0.5,
    temperature: float = 1.0,
) -> Tensor:
    """Generalised Jensen-Shannon divergence of teacher and student at each token.

    Args:
        student_logits: [..., V], usually [B, L, V].
        teacher_logits: the same positions and vocabulary.
        mask: [...], not zero where a token counts; None: all do.
        beta: share β in [0, 1] of the teacher in the mixture; 0 is the forward, 1 the reverse divergence.
        temperature: T > 0.

    Returns:
        A scalar >= 0, mean over the tokens that count; zero where none does.

    Raises:
        ValueError: positions, vocabularies or mask do not belong together.
    """
    student, teacher = log_shares("token_generalized_jsd", student_logits, teacher_logits, mask, temperature)
    if beta == 0.0:
        return mean_over_tokens(divergence(teacher, student), mask)
    if beta == 1.0:
        return mean_over_tokens(divergence(student, teacher), mask)
    between = mixture(teacher, student, beta)
    each = beta * divergence(teacher, between) + (1 - beta) * divergence(student, between)
    return mean_over_tokens(each, mask)


def _check_share(name: str, value: object) -> float:
    """An option in [0, 1], both ends included."""
    share = check_number(name, value, least=0)
    if share > 1:
        raise ValueError(f"{name} must be a finite number >= 0 and <= 1, got {value!r}")
    return share


class TokenGeneralizedJSD(Method):
    """Divergence of both to their mixture at each token (Agarwal et al. 2024).

    Args:
        beta: share in [0, 1] of the teacher in the mixture; 0 is the forward, 1 the reverse divergence.
        temperature: T > 0.

    Raises:
        ValueError: an option is out of range.
    """

    paper = (
        "Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem (2024), On-Policy Distillation of Language "
        "Models: Learning from Self-Generated Mistakes, https://arxiv.org/abs/2306.13649"
    )
    minimum = 0.0

    def __init__(self, beta: float = 0.5, temperature: float = 1.0) -> None:
        super().__init__()
        self.beta = _check_share("beta", beta)
        self.temperature = check_number("temperature", temperature, above=0)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        theirs = taught("token_generalized_jsd", teacher).logits
        return token_generalized_jsd(
            student.logits,
            theirs,
            mask_of(student.logits, batch),
            beta=self.beta,
            temperature=self.temperature,
        )
