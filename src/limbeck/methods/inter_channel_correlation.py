"""Inter-channel correlation: the student's channels are as alike or as diverse as the teacher's.

L. Liu, Q. Huang, S. Lin, H. Xie, B. Wang, X. Chang, X. Liang, Exploring Inter-Channel Correlation for
Diversity-preserved Knowledge Distillation, ICCV 2021, https://arxiv.org/abs/2202.03680.

    L = Σ_pairs (1/B) Σ_n (1/C²) ‖ Ĝ_s − Ĝ_t ‖²_F,    G = F Fᵀ,    Ĝ_i: = G_i: / ‖G_i:‖

with F the map of a sample as [C, H·W], so that G holds the products of all channels with each other; each of
its rows is brought to length 1, as the authors' code does. Places are summed away, so the maps' sizes need
not agree.

Conventions. The mean is over samples and all C² entries, as the paper has it. The authors' own code has two
other divisors: B·C on CIFAR-100 and B²·C on ImageNet. A channel that is all zero has a row of zeros, which
gets no gradient. Several pairs add up. Half precision is computed in float32.

The numbers of channels must agree. Where they do not, the student's map goes through a 1×1 convolution
without bias and a BatchNorm, learned along: the authors' projector, which in their code is there always.

Published: on CIFAR-100 2.5 beside 1 · cross-entropy, the last map, with the divisor B·C. That is 2.5 · C
here, with C the teacher's channels: 640 for ResNet32×4, which has 256, and 160 for ResNet56, which has 64.

Beware. BatchNorm in the projector makes the loss depend on the batch as a whole, so a batch in parts or on
several processes gives another loss than in one. The products of C channels take B · C² numbers for each
network: 1 GiB at 2048 channels and 64 samples.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import aligned
from limbeck.methods._maps import check_maps
from limbeck.methods._parts import check_set_up, paired, widen
from limbeck.methods._relations import directions, unscaled
from limbeck.methods.base import Method, Probe

__all__ = ["InterChannelCorrelation", "inter_channel_correlation"]


def inter_channel_correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the row-normalised similarity matrices of the channels.

    Args:
        student: [B, C, H, W].
        teacher: [B, C, H', W'].

    Returns:
        A scalar >= 0, mean over samples and pairs of channels.

    Raises:
        ValueError: features that are no maps, or not of the same samples and width.
    """
    check_maps("inter_channel_correlation", (student, teacher))
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            "inter_channel_correlation needs maps of the same samples with the same number of channels; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )
    return (_correlations(student) - _correlations(teacher)).square().mean()


def _correlations(feature: Tensor) -> Tensor:
    channels = unscaled(widen(feature)).flatten(2)
    # Autocast would compute the products in half precision.
    with torch.autocast(channels.device.type, enabled=False):
        return directions(channels @ channels.mT)


class InterChannelCorrelation(Method):
    """Similarities between the channels of a map, as the teacher has them (Liu et al. 2021).

    Raises:
        ValueError: in `setup`, features that are no maps.
    """

    paper = (
        "Liu, Huang, Lin, Xie, Wang, Chang, Liang (2021), Exploring Inter-Channel Correlation for "
        "Diversity-preserved Knowledge Distillation, https://arxiv.org/abs/2202.03680"
    )
    aliases = ("ickd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 640.0}

    def __init__(self) -> None:
        super().__init__()
        self.projectors = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("inter_channel_correlation", probe.student, probe.teacher)
        check_maps("inter_channel_correlation", [feature for pair in pairs for feature in pair])
        self.projectors = nn.ModuleList(aligned(*pair, probe.generator, normalize=True) for pair in pairs)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("inter_channel_correlation", student, teacher)
        check_set_up("inter_channel_correlation", len(self.projectors), len(pairs))
        losses = [
            inter_channel_correlation(projector(widen(ours)), theirs)
            for projector, (ours, theirs) in zip(self.projectors, pairs, strict=True)
        ]
        return torch.stack(losses).sum()
