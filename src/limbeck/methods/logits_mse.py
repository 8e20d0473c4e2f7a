"""Mean squared error between the outputs of student and teacher: logits, or the values of a regression.

J. Ba, R. Caruana, Do Deep Nets Really Need to be Deep?, NIPS 2014, https://arxiv.org/abs/1312.6184.

    L = mean( (z_s − z_t)² )

Conventions. The mean is over all elements, so C classes weigh no more than one; the paper has half the sum
over the classes, which is C/2 times this. Half precision is computed in float32.

The paper trains on this loss alone, without labels; it gives no weight for use beside another. It is the
limit of `kd` at a high temperature only where the logits of each sample have mean zero: this loss wants the
common offset of a sample's logits as well, which no softmax sees. A teacher's few very large logits rule it.
"""

from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_logits, taught, widen
from limbeck.methods.base import Method

__all__ = ["LogitsMSE", "logits_mse"]


def logits_mse(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of two outputs.

    Args:
        student_logits: [B, C], or the D >= 1 values of a regression, [B, D].
        teacher_logits: the same.

    Returns:
        A scalar >= 0, mean over all elements.

    Raises:
        ValueError: the shapes differ.
    """
    check_logits("logits_mse", student_logits, teacher_logits)
    return F.mse_loss(widen(student_logits), widen(teacher_logits))


class LogitsMSE(Method):
    """Squared distance of the outputs themselves, for logits and for regression (Ba and Caruana 2014)."""

    paper = "Ba, Caruana (2014), Do Deep Nets Really Need to be Deep?, https://arxiv.org/abs/1312.6184"
    minimum = 0.0

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return logits_mse(student.logits, taught("logits_mse", teacher).logits)
