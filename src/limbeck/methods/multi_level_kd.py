"""Multi-level logit distillation: each sample, the samples among each other, the classes among each other.

Y. Jin, J. Wang, D. Lin, Multi-Level Logit Distillation, CVPR 2023,
https://openaccess.thecvf.com/content/CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html.

    L = Σ_T [ T²/B · Σ_n KL(p_t[n] ‖ p_s[n]) + ‖P_t P_tᵀ − P_s P_sᵀ‖² / B + ‖P_tᵀ P_t − P_sᵀ P_s‖² / C ]

with P the rows p = softmax(z/T), [B, C]: the instance level is `kd`, the batch level compares how alike two
samples are, the class level how often two classes are answered together. ‖·‖² is the sum of the squares.

Conventions. A sum over the temperatures; T² stands before the instance level only, as in the authors' code.
The authors see every sample under a weak and a strong augmentation, and on the weak one choose samples and
classes by the teacher's confidence; here there is one view, and nothing is left out. Batch and class level
compare samples with each other and grow with the batch: rows of all processes are gathered first, and a batch
in parts gives another loss than in one. Half precision is computed in float32.

Published: T in {2, 3, 4, 5, 6}, weight 0.9 beside 0.1 · cross-entropy and batches of 64 on CIFAR-100, as the
authors' code has it. Beware of comparing its published figures with those of other methods: they come with
stronger augmentation and longer training.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_logits, check_number, taught, widen
from limbeck.methods.base import Method

__all__ = ["MultiLevelKD", "multi_level_kd"]

_TEMPERATURES = (2.0, 3.0, 4.0, 5.0, 6.0)


def multi_level_kd(
    student_logits: Tensor, teacher_logits: Tensor, *, temperatures: Sequence[float] = _TEMPERATURES
) -> Tensor:
    """Divergence of every sample, and squared differences of the samples' and the classes' Gram matrices.

    Args:
        student_logits: [B, C], the samples of all processes.
        teacher_logits: [B, C].
        temperatures: each T > 0, at least one; their losses add up.

    Returns:
        A scalar >= 0.

    Raises:
        ValueError: the shapes differ, or there is no temperature.
    """
    check_logits("multi_level_kd", student_logits, teacher_logits)
    if not temperatures:
        raise ValueError("multi_level_kd needs at least one temperature, got none")
    ours, theirs = widen(student_logits), widen(teacher_logits)
    # Autocast would compute the products in half precision.
    with torch.autocast(ours.device.type, enabled=False):
        return torch.stack([_levels(ours, theirs, t) for t in temperatures]).sum()


def _levels(ours: Tensor, theirs: Tensor, temperature: float) -> Tensor:
    """The three levels at one temperature."""
    samples, classes = ours.shape
    log_p, log_q = F.log_softmax(ours / temperature, dim=1), F.log_softmax(theirs / temperature, dim=1)
    p, q = log_p.exp(), log_q.exp()
    instance = F.kl_div(log_p, log_q, reduction="sum", log_target=True) * (temperature**2 / samples)
    between_samples = (q @ q.T - p @ p.T).square().sum() / samples
    between_classes = (q.T @ q - p.T @ p).square().sum() / classes
    return instance + between_samples + between_classes


class MultiLevelKD(Method):
    """Softened logits, aligned by sample, by batch and by class at several temperatures (Jin et al. 2023).

    Args:
        temperatures: each T > 0, at least one; their losses add up.

    Raises:
        ValueError: `temperatures` is empty, no list, or holds what is no temperature.
    """

    paper = (
        "Jin, Wang, Lin (2023), Multi-Level Logit Distillation, https://openaccess.thecvf.com/content/"
        "CVPR2023/html/Jin_Multi-Level_Logit_Distillation_CVPR_2023_paper.html"
    )
    aliases = ("mlkd",)
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 0.9, "temperatures": list(_TEMPERATURES)}
    beside = 0.1

    def __init__(self, temperatures: Sequence[float] = _TEMPERATURES) -> None:
        super().__init__()
        if not isinstance(temperatures, list | tuple) or not temperatures:
            raise ValueError(
                f"temperatures must be a list of numbers > 0, at least one, got {temperatures!r}"
            )
        self.temperatures = tuple(check_number("each of temperatures", t, above=0) for t in temperatures)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        ours, theirs = everyones(student.logits, taught("multi_level_kd", teacher).logits)
        return multi_level_kd(ours, theirs, temperatures=self.temperatures)
