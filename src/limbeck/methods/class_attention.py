"""Class attention transfer: the student finds each class where in the image the teacher finds it.

Z. Guo, H. Yan, H. Li, X. Lin, Class Attention Transfer Based Knowledge Distillation, CVPR 2023,
https://arxiv.org/abs/2304.12777.

    L = mean( (Â_s − Â_t)² ),    A = pool( Σ_c W_kc F_c ),    Â = A / ‖A‖

with A the class activation map of class k: the classifier's weights W applied at every place of the last map
F, before the places are averaged to the logits, then average-pooled to a few places. Each class's map of each
sample is brought to length 1.

Conventions. The mean is over samples, classes and places. The classifier's bias is left out, as the authors'
networks have none. The student's classifier learns from this loss too, the teacher's is a constant. A class
map that is all zero gets no gradient. Half precision is computed in float32.

Both networks need a classifier that is one linear layer on the average of a map, and that map is the layer to
tap: the last one, after its non-linearity (the output of `layer4` in a ResNet of torchvision). A few samples
show whether that is so; a vision transformer, whose classifier takes the class token, is refused. Of a
teacher with more classes than the data, those that stand for the data's are compared.

Published: beside 1 · cross-entropy on CIFAR-100, by the authors' configurations: at 2×2 places weight 15 for
VGG13 to MobileNetV2 and 40 for ResNet50 to MobileNetV2; at 4×4 places 600 for ResNet32×4 to a ShuffleNet and
80 for WRN-40-2 to one. Between networks that are built alike they leave the lengths as they are (`normalize:
false`, 2×2): 15 for ResNet32×4 to ResNet8×4, 12 for WRN-40-2 to WRN-16-2, 0.7 for ResNet56 to ResNet20.

Beware. Without `normalize` the loss grows with the square of the logits, so that a weight holds for one pair
of networks. With it a map of one place says nothing, and is refused.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._heads import classifies
from limbeck.methods._maps import check_maps
from limbeck.methods._parts import check_count, check_switch, paired, taught, widen
from limbeck.methods._relations import directions, unscaled
from limbeck.methods.base import Method, Probe

__all__ = ["ClassAttention", "class_attention"]


def class_attention(
    student: Tensor,
    teacher: Tensor,
    student_weight: Tensor,
    teacher_weight: Tensor,
    *,
    size: int = 2,
    normalize: bool = True,
) -> Tensor:
    """Mean squared difference of pooled class activation maps.

    Args:
        student: [B, C, H, W], what is averaged over its places before the classifier.
        teacher: [B, C', H', W'].
        student_weight: [K, C], the classifier's, without bias.
        teacher_weight: [K, C'].
        size: the maps are average-pooled to size × size places; at least 2 with `normalize`.
        normalize: bring each class's map to length 1.

    Returns:
        A scalar >= 0, mean over samples, classes and places.

    Raises:
        ValueError: shapes that do not belong together, maps of one place only, or an option out of range.
    """
    check_maps("class_attention", (student, teacher))
    size = check_count("size", size, least=2 if check_switch("normalize", normalize) else 1)
    if normalize and 1 in (student.shape[2:].numel(), teacher.shape[2:].numel()):
        raise ValueError(
            "class_attention compares where in a map the classes are, so it needs more than one place; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )
    ours, theirs = _maps(student, student_weight, size), _maps(teacher, teacher_weight, size)
    if ours.shape != theirs.shape:
        raise ValueError(
            "class_attention needs maps of the same samples and weights of the same classes; got student "
            f"{list(student.shape)} and {list(student_weight.shape)}, "
            f"teacher {list(teacher.shape)} and {list(teacher_weight.shape)}"
        )
    if normalize:
        ours, theirs = directions(unscaled(ours)), directions(unscaled(theirs))
    return F.mse_loss(ours, theirs)


def _maps(feature: Tensor, weight: Tensor, size: int) -> Tensor:
    """Class activation maps, [B, K, size²]."""
    if weight.ndim != 2 or weight.shape[1] != feature.shape[1]:
        raise ValueError(
            "class_attention needs a classifier's weight [classes, C] for a map [B, C, H, W]; "
            f"got {list(weight.shape)} for {list(feature.shape)}"
        )
    # Pooled first, which is the same and leaves fewer places for the weights.
    pooled = F.adaptive_avg_pool2d(widen(feature), size).flatten(2)
    # Autocast would compute the products in half precision.
    with torch.autocast(pooled.device.type, enabled=False):
        return weight.to(pooled) @ pooled


class ClassAttention(Method):
    """Mean squared error between class activation maps (CAT-KD, Guo et al. 2023).

    Args:
        size: the maps are average-pooled to size × size places; at least 2 with `normalize`.
        normalize: bring each class's map to length 1.

    Raises:
        ValueError: an option is out of range; in `setup`, a network whose classifier is not one linear layer
            on the average of the tapped map.
    """

    paper = (
        "Guo, Yan, Li, Lin (2023), Class Attention Transfer Based Knowledge Distillation, "
        "https://arxiv.org/abs/2304.12777"
    )
    aliases = ("cat_kd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["one"]] = "one"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 15.0, "size": 2, "normalize": True}

    def __init__(self, size: int = 2, normalize: bool = True) -> None:
        super().__init__()
        self.normalize = check_switch("normalize", normalize)
        self.size = check_count("size", size, least=2 if normalize else 1)
        # In a tuple it is no part of this module: it belongs to the student, which saves and trains it.
        # A deep copy of student and method in one goes on with the copied student's.
        self._own: tuple[nn.Linear, ...] = ()
        # The teacher's is a constant: its rows for the classes of the data.
        self.register_buffer("known", torch.empty(0), persistent=False)
        self.known: Tensor

    def setup(self, probe: Probe) -> None:
        pair = paired("class_attention", probe.student, probe.teacher)[0]
        check_maps("class_attention", pair)
        answers = (probe.student.logits, taught("class_attention", probe.teacher).logits)
        self._own = (_head("student", probe.student_head, pair[0], answers[0]),)
        self.known = _head("teacher", probe.teacher_head, pair[1], answers[1]).weight.detach().clone()

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("class_attention", student, teacher)
        if len(pairs) != 1 or not self._own:
            ready = "was" if self._own else "was not"
            raise ValueError(f"class_attention {ready} set up for one pair of features; got {len(pairs)}")
        return class_attention(
            *pairs[0], self._own[0].weight, self.known, size=self.size, normalize=self.normalize
        )


def _head(who: str, head: nn.Module | None, feature: Tensor, logits: Tensor) -> nn.Linear:
    """The linear layer that turns the averaged map into these logits."""
    if isinstance(head, nn.Linear) and classifies(head, feature, logits):
        return head
    found = "none answers its logits"
    if isinstance(head, nn.Linear):
        found = "of that it answers other logits"
        if head.in_features != feature.shape[1]:
            found = f"it takes {head.in_features}"
    raise ValueError(
        f"class_attention needs a {who} whose classifier is one linear layer on the average of the tapped "
        f"map, here of {feature.shape[1]} channels, and {found}; tap the map that is averaged before the "
        "classifier, or choose a network that has such a one"
    )
