"""Normalised knowledge distillation: the target class by the teacher's share, the others renormalised.

Z. Yang, A. Zeng, Z. Li, T. Zhang, C. Yuan, Y. Li, From Knowledge Distillation to Self-Knowledge Distillation:
A Unified Approach with Normalized Loss and Customized Soft Labels, ICCV 2023,
https://arxiv.org/abs/2303.13005.

    L = (1/N) Σ_n [ −t_y · log s_y − γ · T² · Σ_{c≠y} t̂_c · log ŝ_c ]

with s and t the plain softmax of student and teacher, y the label, and ŝ and t̂ the softmax at temperature T
over the other classes alone, so that both sum to 1.

Conventions. The target's term has no temperature. Both terms are cross-entropies: no entropy is subtracted,
and the first wants s_y = 1 whatever the teacher says, so equal logits are no minimum. The mean is over
labelled samples (class index −1 is none); a batch without any gives zero. Half precision is computed in
float32.

Published: γ = 1.5, T = 1, weight 1 beside 1 · cross-entropy on ImageNet. Unlike `decoupled_kd` it contains a
hard-label term of its own, weighted by the teacher's confidence.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.methods._parts import check_indexed, check_number, labels_of, mean_over_labelled, taught, widen
from limbeck.methods.base import Method

__all__ = ["NormalizedKD", "normalized_kd"]


def normalized_kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.5,
    temperature: float = 1.0,
    labelled: Tensor | None = None,
) -> Tensor:
    """Cross-entropy on the target class by the teacher's share, plus γ T² times that among the others.

    Args:
        student_logits: [B, C] with C >= 2.
        teacher_logits: [B, C].
        target: class indices [B] (int64, −1 where not known).
        gamma: weight of the other classes' part.
        temperature: T > 0 of the other classes' part.
        labelled: the number of labelled samples to divide by, a scalar; None counts them.

    Returns:
        A scalar >= 0, mean over the labelled samples.

    Raises:
        ValueError: the shapes do not belong together, or there is one class only.
    """
    check_indexed("normalized_kd", student_logits, teacher_logits, target)
    ours, theirs = widen(student_logits), widen(teacher_logits)
    own = target.clamp(min=0)[:, None]
    share = F.softmax(theirs, dim=1).gather(1, own)
    on_target = (share * F.log_softmax(ours, dim=1).gather(1, own)).squeeze(1)
    chosen = own == torch.arange(ours.shape[1], device=target.device)
    student = F.log_softmax((ours / temperature).masked_fill(chosen, -torch.inf), dim=1)
    teacher = F.softmax((theirs / temperature).masked_fill(chosen, -torch.inf), dim=1)
    # At the target class the student's logarithm is infinite and the teacher's share 0: left out.
    among_others = (teacher * student.masked_fill(chosen, 0.0)).sum(1)
    each = torch.where(target != UNLABELLED, on_target + gamma * temperature**2 * among_others, 0.0)
    return -mean_over_labelled(each.sum(), target, labelled)


class NormalizedKD(Method):
    """Target class by the teacher's share, other classes renormalised (Yang et al. 2023).

    Args:
        gamma: weight >= 0 of the other classes' part.
        temperature: T > 0 of the other classes' part.

    Raises:
        ValueError: an option is out of range.
    """

    paper = (
        "Yang, Zeng, Li, Zhang, Yuan, Li (2023), From Knowledge Distillation to Self-Knowledge Distillation: "
        "A Unified Approach with Normalized Loss and Customized Soft Labels, https://arxiv.org/abs/2303.13005"
    )
    aliases = ("nkd",)
    hard_targets = True
    published: ClassVar[Mapping[str, object]] = {"weight": 1.0, "gamma": 1.5, "temperature": 1.0}

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0) -> None:
        super().__init__()
        self.gamma = check_number("gamma", gamma, least=0)
        self.temperature = check_number("temperature", temperature, above=0)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return normalized_kd(
            student.logits,
            taught("normalized_kd", teacher).logits,
            labels_of("normalized_kd", batch),
            gamma=self.gamma,
            temperature=self.temperature,
            labelled=batch.labelled,
        )
