"""Teachers that are sure of a sample weigh more for it (EBKD); no label is looked at.

K. Kwon, H. Na, H. Lee, N. S. Kim, Adaptive Knowledge Distillation Based on Entropy, ICASSP 2020,
https://doi.org/10.1109/ICASSP40776.2020.9054698.

    w_k = exp(−H_k) / Σ_j exp(−H_j),    H_k = −Σ_c p_kc log p_kc,    p_k = softmax(z_k / T)

The paper's rule is that a teacher of lower entropy is taken at a larger rate. The form of the rate is this
library's: exp(H) is the perplexity, the number of classes that a teacher hesitates between, and a teacher
weighs by its inverse. T is 1 unless given. Beware of a teacher that is sure and wrong: nothing here tells it
from one that is right.
"""

from torch import Tensor

from limbeck.knowledge import Batch
from limbeck.methods._parts import check_number
from limbeck.teachers.weightings.base import Weighting

__all__ = ["Entropy", "entropy_weights"]


def entropy_weights(teachers: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Weights by the entropy of each teacher's answer.

    Args:
        teachers: logits of K teachers, [B, K, C].
        temperature: T > 0 at which the entropy is taken.

    Returns:
        [B, K], float32; rows sum to 1.
    """
    logs = (teachers.float() / temperature).log_softmax(2)
    entropy = -(logs.exp() * logs).sum(2)
    return (-entropy).softmax(1)


class Entropy(Weighting):
    """Weights by how sure each teacher is (Kwon et al. 2020).

    Args:
        temperature: T > 0 at which the entropy is taken.

    Raises:
        ValueError: it is out of range.
    """

    paper = (
        "Kwon, Na, Lee, Kim (2020), Adaptive Knowledge Distillation Based on Entropy, "
        "https://doi.org/10.1109/ICASSP40776.2020.9054698"
    )

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, above=0)

    def forward(self, teachers: Tensor, student: Tensor | None, batch: Batch, temperature: float) -> Tensor:
        return entropy_weights(teachers, temperature=self.temperature)
