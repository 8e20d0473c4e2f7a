"""Cosine distance between the logits of student and teacher: their direction, not their length.

The cosine loss of V. Sanh, L. Debut, J. Chaumond, T. Wolf, DistilBERT, a distilled version of BERT: smaller,
faster, cheaper and lighter, 2019, https://arxiv.org/abs/1910.01108, which has it on hidden states; here it is
on the logits.

    L = (1/B) Σ_n [ 1 − z_s·z_t / (‖z_s‖ ‖z_t‖) ]

Conventions. The mean is over samples; each norm has a floor of 1e-8, so a row of zeros counts as 1. Half
precision is computed in float32.

No published weight is known for logits. The scale of the student's logits is free, and only a cross-entropy
beside it sets it. The common offset of a sample's logits matters, although no softmax sees it (`dist` leaves
offset and scale out). One output alone has no direction but its sign: use `logits_mse` for a regression.
Beware of a student that starts from a zero classifier: where a row is zero, its gradient is of the order of
1e8.
"""

from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_logits, taught, widen
from limbeck.methods.base import Method

__all__ = ["LogitsCosine", "logits_cosine"]


def logits_cosine(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """One minus the cosine of the angle between two outputs.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C].

    Returns:
        A scalar in [0, 2] (but for rounding), mean over the batch.

    Raises:
        ValueError: the shapes differ.
    """
    check_logits("logits_cosine", student_logits, teacher_logits)
    return 1 - F.cosine_similarity(widen(student_logits), widen(teacher_logits), dim=1, eps=1e-8).mean()


class LogitsCosine(Method):
    """Angle between the logits of student and teacher (after Sanh et al. 2019, who take hidden states)."""

    paper = (
        "Sanh, Debut, Chaumond, Wolf (2019), DistilBERT, a distilled version of BERT: smaller, faster, "
        "cheaper and lighter (there on hidden states), https://arxiv.org/abs/1910.01108"
    )
    minimum = 0.0

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return logits_cosine(student.logits, taught("logits_cosine", teacher).logits)
