"""Attention transfer: the student looks at the places of an image that the teacher looks at.

S. Zagoruyko, N. Komodakis, Paying More Attention to Attention: Improving the Performance of Convolutional
Neural Networks via Attention Transfer, ICLR 2017, https://arxiv.org/abs/1612.03928.

    L = Σ_pairs mean( (Q_s / ‖Q_s‖ − Q_t / ‖Q_t‖)² ),    Q = (1/C) Σ_c |F_c|^p

with Q the attention map of a sample, one number for each place, flattened. Channels are averaged away, so
their numbers need not agree.

Conventions. The mean is over samples and places (the field's; the paper has half the distance of the two
vectors). Where two maps differ in size, the features of the larger are average-pooled to the smaller, before
they are raised to the power p. Several pairs add up. A sample whose features are all zero has an attention of
zero, which gets no gradient. Half precision is computed in float32.

Published: weight 1000 beside 1 · cross-entropy on CIFAR-100, the last map of every stage (the protocol of
Tian et al. 2020, https://arxiv.org/abs/1910.10699).

Beware. The features must keep their places: it says nothing of a map of 1×1, whose attention is always 1. As
a mean over places of vectors of length 1 the loss shrinks as 1/(H·W): the weight goes with maps of 8×8 to
32×32. Between networks that are built differently it can do harm: MobileNetV2 reached 59.4 % on CIFAR-100
when taught so by VGG13, and 64.6 % alone (Tian et al. 2020).
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._maps import check_maps, check_same_samples, same_size
from limbeck.methods._parts import check_number, paired, widen
from limbeck.methods._relations import directions, unscaled
from limbeck.methods.base import Method

__all__ = ["AttentionTransfer", "attention_transfer"]


def attention_transfer(student: Tensor, teacher: Tensor, *, p: float = 2.0) -> Tensor:
    """Mean squared difference of the normalised attention maps.

    Args:
        student: [B, C, H, W].
        teacher: [B, C', H', W'], of any width and size: the larger map is average-pooled to the smaller.
        p: power >= 1 of the absolute features; the larger, the more the strongest places count.

    Returns:
        A scalar >= 0, mean over samples and places.

    Raises:
        ValueError: features that are no maps, or not of the same samples, or `p` out of range.
    """
    check_maps("attention_transfer", (student, teacher))
    p = check_number("p", p, least=1)
    check_same_samples("attention_transfer", student, teacher)
    ours, theirs = same_size(widen(student), widen(teacher))
    return (_attention(ours, p) - _attention(theirs, p)).square().mean()


def _attention(feature: Tensor, p: float) -> Tensor:
    """Where each sample's features are strong, a vector of length 1, [B, H·W]."""
    return directions(unscaled(feature, by_sample=True).abs().pow(p).mean(1).flatten(1))


class AttentionTransfer(Method):
    """Mean squared error between normalised attention maps (Zagoruyko and Komodakis 2017).

    Args:
        p: power >= 1 of the absolute features.

    Raises:
        ValueError: `p` is out of range.
    """

    paper = (
        "Zagoruyko, Komodakis (2017), Paying More Attention to Attention: Improving the Performance of "
        "Convolutional Neural Networks via Attention Transfer, https://arxiv.org/abs/1612.03928"
    )
    aliases = ("at",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    prefers = "stages"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 1000.0, "p": 2.0}
    unlike = (
        "Attention transfer can do harm between networks that are built differently: MobileNetV2 reached "
        "59.4 % on CIFAR-100 when taught so by VGG13, and 64.6 % alone (Tian et al. 2020, "
        "https://arxiv.org/abs/1910.10699, Table 2)."
    )

    def __init__(self, p: float = 2.0) -> None:
        super().__init__()
        self.p = check_number("p", p, least=1)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("attention_transfer", student, teacher)
        return torch.stack([attention_transfer(*pair, p=self.p) for pair in pairs]).sum()
