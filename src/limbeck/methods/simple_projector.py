"""SimKD: the student ends in the teacher's own classifier, and learns the feature that goes into it.

D. Chen, J.-P. Mei, H. Zhang, C. Wang, Y. Feng, C. Chen, Knowledge Distillation with the Reused Teacher
Classifier, CVPR 2022, https://arxiv.org/abs/2203.14001.

    L = mean( (P(F_s) − F_t)² )

with F the last maps and P a projector that stays in the student when it is done: the student that is
trained and shipped is a composite of the student without its classifier, the projector, and a copy of the
teacher's classifier, which is not trained (`limbeck.students.reused_head`). Where such a term stands in an
objective, the composite is built and the term reads its projector; the control stays the plain student.

Conventions. The mean is over all elements. Where the two maps differ in size, the larger is average-pooled to
the smaller; the published code does the same. Maps are for a teacher whose classifier takes their mean over
places; where it takes something else (a norm stands between, or the network is a transformer), pair the
vectors that enter the classifiers: the projector is made of linear layers then. Half precision is computed in
float32.

Published: weight 1 alone, no cross-entropy, on CIFAR-100; a projector of 1×1, 3×3 and 1×1 convolutions with
BatchNorm and ReLU, half as wide inside as the teacher's feature (`factor: 2`).

Beware. The student is larger than the one that was named, by projector and classifier: look at its own size
in the result and not at the plain student's. Its weights load into the composite, not into the plain class.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._maps import mean_squares
from limbeck.methods._parts import check_count, paired
from limbeck.methods.base import Method

__all__ = ["SimpleProjector", "simple_projector"]


def simple_projector(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of a projected student feature and the teacher's.

    Args:
        student: [B, C, H, W] or [B, C], already of the teacher's width.
        teacher: the same; for maps, H and W may differ: the larger map is average-pooled to the smaller.

    Returns:
        A scalar >= 0, mean over all elements.

    Raises:
        ValueError: the shapes do not belong together.
    """
    return mean_squares("simple_projector", student, teacher)


class SimpleProjector(Method):
    """Learns the feature before the teacher's classifier, and ends in that classifier (Chen et al. 2022).

    Args:
        factor: by how much the projector is narrower inside than the teacher's feature.

    Raises:
        ValueError: `factor` is out of range.
    """

    paper = (
        "Chen, Mei, Zhang, Wang, Feng, Chen (2022), Knowledge Distillation with the Reused Teacher "
        "Classifier, https://arxiv.org/abs/2203.14001"
    )
    aliases = ("simkd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["one"]] = "one"
    prefers = "classified"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 1.0, "factor": 2}
    beside = 0.0
    reuses_head = True

    def __init__(self, factor: int = 2) -> None:
        super().__init__()
        self.factor = check_count("factor", factor)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        ((ours, theirs),) = paired("simple_projector", student, teacher)
        return simple_projector(ours, theirs)
