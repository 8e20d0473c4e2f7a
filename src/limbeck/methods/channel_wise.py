"""Channel-wise distillation: every channel looks at the places that the teacher's channel looks at.

C. Shu, Y. Liu, J. Gao, Z. Yan, C. Shen, Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021,
https://arxiv.org/abs/2011.13256.

    L = Σ_pairs T²/(B·C) Σ_n Σ_c KL( softmax(t_nc / T) ‖ softmax(s_nc / T) )

with the softmax of a channel over its places: a distribution over where, not over which class. The KL is
large where the teacher's channel is strong and the student's is not, so the background counts little.

Conventions. The sum is divided by samples and channels, and not by places. Where two maps differ in size, the
larger is average-pooled to the smaller. Where the numbers of channels differ, the student's map goes through
a 1×1 convolution, learned along. Several pairs add up. Half precision: the convolution follows autocast, the
divergence is computed in float32.

Published: for segmentation. The authors' command for PSPNet on Cityscapes, on the map of class scores, has
weight 3 at T = 4 beside 1 · cross-entropy; SuperGradients has 6 at T = 3 beside 1 · cross-entropy. There is
no published value for CIFAR-100.

Beware. It says nothing of a map of 1×1, whose softmax is always 1, and refuses one. Where features are small
against T the softmax is nearly flat, and the loss nears half the variance over places of their difference: it
then prefers no place to another.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import aligned
from limbeck.methods._maps import check_maps, check_one_shape, same_size
from limbeck.methods._parts import check_number, check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["ChannelWise", "channel_wise"]


def channel_wise(student: Tensor, teacher: Tensor, *, temperature: float = 4.0) -> Tensor:
    """Divergence of each channel's distribution over places, times T².

    Args:
        student: [B, C, H, W].
        teacher: [B, C, H', W']; the larger map is average-pooled to the smaller.
        temperature: T > 0, on both sides.

    Returns:
        A scalar >= 0, mean over samples and channels.

    Raises:
        ValueError: features that are no maps, of one place only, or do not belong together; or `temperature`
            out of range.
    """
    check_maps("channel_wise", (student, teacher))
    temperature = check_number("temperature", temperature, above=0)
    student, teacher = same_size(widen(student), widen(teacher))
    check_one_shape("channel_wise", student, teacher)
    if student.shape[2:].numel() == 1:
        raise ValueError(
            "channel_wise compares where in a map a channel is strong, so it needs more than one place; "
            f"got {list(student.shape)}"
        )
    ours, theirs = ((x.flatten(2) / temperature).log_softmax(2) for x in (student, teacher))
    divergence = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return temperature**2 * divergence / ours.shape[:2].numel()


class ChannelWise(Method):
    """KL divergence between channels as distributions over places (Shu et al. 2021).

    Args:
        temperature: T > 0, on both sides.

    Raises:
        ValueError: `temperature` is out of range; in `setup`, features that are no maps.
    """

    paper = (
        "Shu, Liu, Gao, Yan, Shen (2021), Channel-wise Knowledge Distillation for Dense Prediction, "
        "https://arxiv.org/abs/2011.13256"
    )
    aliases = ("cwd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 3.0, "temperature": 4.0}

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = check_number("temperature", temperature, above=0)
        self.projectors = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("channel_wise", probe.student, probe.teacher)
        check_maps("channel_wise", [feature for pair in pairs for feature in pair])
        self.projectors = nn.ModuleList(aligned(*pair, probe.generator) for pair in pairs)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("channel_wise", student, teacher)
        check_set_up("channel_wise", len(self.projectors), len(pairs))
        losses = [
            channel_wise(projector(widen(ours)), theirs, temperature=self.temperature)
            for projector, (ours, theirs) in zip(self.projectors, pairs, strict=True)
        ]
        return torch.stack(losses).sum()
