"""Cross-entropy against smoothed labels: a teacher that knows the label, and nothing about the other classes.

C. Szegedy, V. Vanhoucke, S. Ioffe, J. Shlens, Z. Wojna, Rethinking the Inception Architecture for Computer
Vision, CVPR 2016, https://arxiv.org/abs/1512.00567.

    L = −(1/N) Σ_n Σ_c q_nc · log softmax(z_n)_c,    q = (1 − ε)·y + ε/C

Conventions. Those of `cross_entropy`, whose function this is, with ε = 0.1 from the start: the smoothing mass
goes to all C classes, the true one too; the mean is over labelled samples. It looks at labels only, so its
kind is `label` and the control keeps it. Half precision is computed in float32.

Published: ε = 0.1, in place of the plain cross-entropy. It is here to be compared with: what a method gains
over plain labels but not over smoothed ones is no knowledge of the teacher's (`teacher_free` puts the same
question). Beware of smoothing the labels of a teacher: its logits then say little about the wrong classes
(Müller et al. 2019, https://arxiv.org/abs/1906.02629).
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_number, labels_of
from limbeck.methods.base import Method
from limbeck.methods.cross_entropy import cross_entropy

__all__ = ["LabelSmoothing", "label_smoothing"]


def label_smoothing(
    student_logits: Tensor, target: Tensor, *, smoothing: float = 0.1, labelled: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy with smoothed labels over the labelled samples.

    Args:
        student_logits: [B, C].
        target: class indices [B] (int64, −1 where not known), or class shares [B, C] of mixed samples (rows
            sum to 1; a row of zeros is not known).
        smoothing: the share ε in [0, 1) that is spread evenly over all classes.
        labelled: the number of labelled samples to divide by, a scalar; None counts them.

    Returns:
        A scalar; zero where no sample is labelled.

    Raises:
        ValueError: the shapes do not belong together.
    """
    return cross_entropy(student_logits, target, label_smoothing=smoothing, labelled=labelled)


class LabelSmoothing(Method):
    """Cross-entropy with smoothed labels, which the control keeps (Szegedy et al. 2016).

    Args:
        smoothing: share in [0, 1) that is spread evenly over all classes.

    Raises:
        ValueError: `smoothing` is out of range.
    """

    paper = (
        "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna (2016), Rethinking the Inception Architecture for Computer "
        "Vision, https://arxiv.org/abs/1512.00567"
    )
    kind: ClassVar[Literal["label"]] = "label"
    published: ClassVar[Mapping[str, object]] = {"weight": 1.0, "smoothing": 0.1}
    beside = 0.0

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        self.smoothing = check_number("smoothing", smoothing, least=0, below=1)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return label_smoothing(
            student.logits,
            labels_of("label_smoothing", batch),
            smoothing=self.smoothing,
            labelled=batch.labelled,
        )
