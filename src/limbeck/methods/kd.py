"""Knowledge distillation by softened logits.

G. Hinton, O. Vinyals, J. Dean, Distilling the Knowledge in a Neural Network, 2015,
https://arxiv.org/abs/1503.02531.

    L = T² · (1/B) Σ_n KL( softmax(z_t/T) ‖ softmax(z_s/T) )

Conventions. The mean is over samples, not over samples times classes; T² keeps the size of the gradient
about the same for every T. The teacher's entropy is subtracted (KL, not cross-entropy), so that equal logits
give zero; the gradient is the same. Half precision is computed in float32.

Multi-label responses, one sigmoid for each class, are not one distribution but C of two outcomes each. With
`multi_label` the divergence is theirs, summed over the classes:

    L = T² · (1/B) Σ_n Σ_c KL( Bernoulli(σ(z_t/T)) ‖ Bernoulli(σ(z_s/T)) )

Published: T = 4, weight 0.9 beside 0.1 · cross-entropy on CIFAR-100 (the protocol of Tian et al. 2020,
https://arxiv.org/abs/1910.10699). Beware of a teacher trained with label smoothing: its logits say little
about the wrong classes (Müller et al. 2019, https://arxiv.org/abs/1906.02629).
"""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._divergence import softened_divergence
from limbeck.methods._parts import check_logits, check_number, check_switch, taught, widen
from limbeck.methods.base import Method

__all__ = ["KD", "kd"]


def kd(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0, multi_label: bool = False
) -> Tensor:
    """Kullback-Leibler divergence from teacher to student at a temperature, times its square.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C].
        temperature: T > 0.
        multi_label: each class is a yes or no of its own (sigmoid), not one of C (softmax).

    Returns:
        A scalar >= 0, mean over the batch.

    Raises:
        ValueError: the shapes differ.
    """
    check_logits("kd", student_logits, teacher_logits)
    if multi_label:
        return _multi_label(widen(student_logits) / temperature, widen(teacher_logits) / temperature) * (
            temperature**2 / student_logits.shape[0]
        )
    return softened_divergence(widen(student_logits), widen(teacher_logits), temperature)


def _multi_label(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of the divergences of yes-or-no answers; from logarithms, so that certain answers stay finite."""
    yes = F.kl_div(F.logsigmoid(student), F.logsigmoid(teacher), reduction="sum", log_target=True)
    no = F.kl_div(F.logsigmoid(-student), F.logsigmoid(-teacher), reduction="sum", log_target=True)
    return yes + no


class KD(Method):
    """Softened logits of the teacher as targets (Hinton et al. 2015).

    Args:
        temperature: T > 0; higher looks more at the wrong classes.
        multi_label: for responses in which each class is a yes or no of its own (sigmoid).

    Raises:
        ValueError: an option is out of range.
    """

    paper = (
        "Hinton, Vinyals, Dean (2015), Distilling the Knowledge in a Neural Network, "
        "https://arxiv.org/abs/1503.02531"
    )
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 0.9, "temperature": 4.0}
    beside = 0.1

    def __init__(self, temperature: float = 4.0, multi_label: bool = False) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, above=0)
        self.multi_label = check_switch("multi_label", multi_label)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        theirs = taught("kd", teacher).logits
        return kd(student.logits, theirs, temperature=self.temperature, multi_label=self.multi_label)
