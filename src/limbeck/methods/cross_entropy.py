"""Cross-entropy with the labels, with label smoothing on request.

    L = −(1/N) Σ_n Σ_c q_nc · log softmax(z_n)_c,    q = (1 − ε)·y + ε/C

Label smoothing: C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016,
https://arxiv.org/abs/1512.00567 (there ε = 0.1; the smoothing mass goes to all C classes, the true one too).

Conventions. The mean is over labelled samples: an unlabelled one (class index −1, or shares that are all
zero) adds neither loss nor count, and a batch without any label gives zero. Half precision is computed in
float32.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.methods._parts import check_number, labels_of, mean_over_labelled, widen
from limbeck.methods.base import Method

__all__ = ["CrossEntropy", "cross_entropy"]


def cross_entropy(
    student_logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0, labelled: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy over the labelled samples.

    Args:
        student_logits: [B, C].
        target: class indices [B] (int64, −1 where not known), or class shares [B, C] of mixed samples (rows
            sum to 1; a row of zeros is not known).
        label_smoothing: the share ε in [0, 1) that is spread evenly over all classes.
        labelled: the number of labelled samples to divide by, a scalar; None counts them.

    Returns:
        A scalar; zero where no sample is labelled.

    Raises:
        ValueError: the shapes do not belong together.
    """
    logits = widen(student_logits)
    if logits.ndim != 2 or target.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(
            "cross_entropy needs logits [samples, classes] and class indices [samples] or class shares "
            f"[samples, classes]; got logits {list(logits.shape)} and targets {list(target.shape)}"
        )
    if target.ndim == 1:
        total = F.cross_entropy(
            logits, target, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="sum"
        )
    else:
        shares = target.to(logits.dtype)
        # The smoothing is scaled by the row's mass, so that a row of zeros stays without effect.
        even = shares.sum(1, keepdim=True) / logits.shape[1]
        smoothed = shares + label_smoothing * (even - shares)
        total = -(smoothed * F.log_softmax(logits, dim=1)).sum()
    return mean_over_labelled(total, target, labelled)


class CrossEntropy(Method):
    """Cross-entropy with the labels: what the control learns from as well.

    Args:
        label_smoothing: share in [0, 1) that is spread evenly over all classes.

    Raises:
        ValueError: `label_smoothing` is out of range.
    """

    paper = (
        "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna (2016), Rethinking the Inception Architecture for Computer "
        "Vision (label smoothing), https://arxiv.org/abs/1512.00567"
    )
    aliases = ("ce",)
    kind: ClassVar[Literal["label"]] = "label"
    published: ClassVar[Mapping[str, object]] = {"weight": 0.1, "label_smoothing": 0.0}

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = check_number("label_smoothing", label_smoothing, least=0, below=1)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return cross_entropy(
            student.logits,
            labels_of("cross_entropy", batch),
            label_smoothing=self.label_smoothing,
            labelled=batch.labelled,
        )
