"""Teacher-free distillation: a virtual teacher, made by hand, that is right with a given probability.

L. Yuan, F. E. H. Tay, G. Li, T. Wang, J. Feng, Revisiting Knowledge Distillation via Label Smoothing
Regularization, CVPR 2020, https://arxiv.org/abs/1909.11723.

    L = (1/N) Σ_n KL( u_n ‖ softmax(z_n) ),    u = softmax(v/T),    v_c = a if c = y, else (1 − a)/(C − 1)

Conventions. The temperature divides the virtual teacher's probabilities v themselves, not their logarithms,
so u is nearly even at the published T. The paper writes the student softened by T too; the authors' code,
which is followed here, leaves it as it is, and there is no T². The mean is over labelled samples; the
authors' code averages over samples times classes and multiplies by a constant of its own, so its weight times
that multiplier, divided by C, is the weight here. Mixed targets mix v. Half precision is computed in float32.

The virtual teacher is a regulariser that looks at labels only. So the kind is `label`: no teacher is asked,
and the control keeps the term.

Published: a = 0.99, T = 20, weight 0.1 beside 0.9 · cross-entropy for ResNet-18 on CIFAR-100 (0.1 times a
multiplier of 100 over 100 classes, as the authors' code has it). The paper's other variant, a student taught
by an earlier copy of itself, is `kd` with that copy as the teacher.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_number, labels_of, mean_over_labelled, widen
from limbeck.methods.base import Method

__all__ = ["TeacherFree", "teacher_free"]


def teacher_free(
    student_logits: Tensor,
    target: Tensor,
    *,
    confidence: float = 0.99,
    temperature: float = 20.0,
    labelled: Tensor | None = None,
) -> Tensor:
    """Kullback-Leibler divergence from a virtual teacher to the student.

    Args:
        student_logits: [B, C] with C >= 2.
        target: class indices [B] (int64, −1 where not known), or class shares [B, C] of mixed samples (rows
            sum to 1; a row of zeros is not known).
        confidence: the virtual teacher's probability a of the label.
        temperature: T > 0, by which the virtual teacher's probabilities are divided.
        labelled: the number of labelled samples to divide by, a scalar; None counts them.

    Returns:
        A scalar >= 0, mean over the labelled samples; zero where there are none.

    Raises:
        ValueError: the shapes do not belong together, or there is one class only.
    """
    logits = widen(student_logits)
    if logits.ndim != 2 or logits.shape[1] < 2 or target.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(
            "teacher_free needs logits [samples, classes] of at least 2 classes, and class indices [samples] "
            "or class shares [samples, classes]; "
            f"got logits {list(logits.shape)} and targets {list(target.shape)}"
        )
    shares = target
    if target.ndim == 1:
        shares = target[:, None] == torch.arange(logits.shape[1], device=target.device)
    shares = shares.to(logits.dtype)
    others = (1 - confidence) / (logits.shape[1] - 1)
    virtual = F.log_softmax((others + (confidence - others) * shares) / temperature, dim=1)
    each = F.kl_div(F.log_softmax(logits, dim=1), virtual, reduction="none", log_target=True).sum(1)
    each = torch.where((shares != 0).any(1), each, 0.0)
    return mean_over_labelled(each.sum(), target, labelled)


class TeacherFree(Method):
    """A virtual teacher made from the label alone, which the control keeps (Yuan et al. 2020).

    Args:
        confidence: the virtual teacher's probability of the label, above 0 and below 1.
        temperature: T > 0; higher makes the virtual teacher more even.

    Raises:
        ValueError: an option is out of range.
    """

    paper = (
        "Yuan, Tay, Li, Wang, Feng (2020), Revisiting Knowledge Distillation via Label Smoothing "
        "Regularization, https://arxiv.org/abs/1909.11723"
    )
    aliases = ("tf_kd",)
    kind: ClassVar[Literal["label"]] = "label"
    published: ClassVar[Mapping[str, object]] = {"weight": 0.1, "confidence": 0.99, "temperature": 20.0}
    beside = 0.9

    def __init__(self, confidence: float = 0.99, temperature: float = 20.0) -> None:
        super().__init__()
        self.confidence = check_number("confidence", confidence, above=0, below=1)
        self.temperature = check_number("temperature", temperature, above=0)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return teacher_free(
            student.logits,
            labels_of("teacher_free", batch),
            confidence=self.confidence,
            temperature=self.temperature,
            labelled=batch.labelled,
        )
