"""Relational knowledge distillation: distances and angles between samples, as one term.

W. Park, D. Kim, Y. Lu, M. Cho, Relational Knowledge Distillation, CVPR 2019, https://arxiv.org/abs/1904.05068.

    L = λ_d · L_distance + λ_a · L_angle

The two parts are methods of their own, `relational_distance` and `relational_angle`; their pages say how each
is computed. This one is for a recipe that wants the method as published.

Conventions. Those of the parts. A part of weight 0 is not computed.

Published: λ_d = 25 and λ_a = 50, weight 1 beside 1 · cross-entropy, on the features before the classifier, on
CIFAR-100. The paper's own figures for classification add plain `kd`.

Beware. The loss depends on which samples are in a batch together: parts of a batch see fewer pairs.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_number, paired
from limbeck.methods.base import Method
from limbeck.methods.relational_angle import relational_angle
from limbeck.methods.relational_distance import relational_distance

__all__ = ["Relational", "relational"]


def relational(student: Tensor, teacher: Tensor, *, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Weighted sum of the distance loss and the angle loss of relational distillation.

    Args:
        student: [B, ...]; anything beyond the first axis is flattened.
        teacher: [B, ...], of any width.
        distance: weight of the distances.
        angle: weight of the angles.

    Returns:
        A scalar >= 0 for weights >= 0.

    Raises:
        ValueError: the two do not hold the same samples, or both weights are 0.
    """
    parts = []
    if distance:
        parts.append(distance * relational_distance(student, teacher))
    if angle:
        parts.append(angle * relational_angle(student, teacher))
    if not parts:
        raise ValueError("relational needs distance or angle above 0, got 0 for both")
    return torch.stack(parts).sum()


class Relational(Method):
    """Distances and angles between the samples of a batch, as the teacher has them (Park et al. 2019).

    Args:
        distance: weight >= 0 of the distances.
        angle: weight >= 0 of the angles; not both may be 0.

    Raises:
        ValueError: an option is out of range.
    """

    paper = "Park, Kim, Lu, Cho (2019), Relational Knowledge Distillation, https://arxiv.org/abs/1904.05068"
    aliases = ("rkd",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 1.0, "distance": 25.0, "angle": 50.0}
    prefers = "embedding"

    def __init__(self, distance: float = 25.0, angle: float = 50.0) -> None:
        super().__init__()
        self.distance = check_number("distance", distance, least=0)
        self.angle = check_number("angle", angle, least=0)
        if not self.distance and not self.angle:
            raise ValueError("distance and angle must not both be 0")

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        losses = [
            relational(*everyones(*pair), distance=self.distance, angle=self.angle)
            for pair in paired("relational", student, teacher)
        ]
        return torch.stack(losses).sum()
