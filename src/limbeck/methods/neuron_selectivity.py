"""Neuron selectivity transfer: channels respond to the same places, as a distribution over channels.

Z. Huang, N. Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017,
https://arxiv.org/abs/1707.01219.

    L = Σ_pairs (1/B) Σ_n [ mean_ij k(s_i, s_j) + mean_ij k(t_i, t_j) − 2 mean_ij k(s_i, t_j) ]
    k(a, b) = (a·b)²

with s_i and t_j the channels of one sample, each flattened over its places and brought to length 1. It is the
squared maximum mean discrepancy of both sets of channels, so their numbers need not agree, nor their order.

Conventions. Of the paper's kernels it is the polynomial one with degree 2 and no constant, which the field
uses; it amounts to matching the Gram matrices of the places. The teacher's own term is a constant, there so
that a perfect student has 0. Where two maps differ in size, the larger is average-pooled to the smaller.
Several pairs add up. A channel that is all zero stays zero and gets no gradient. Half precision is computed
in float32.

Published: weight 50 beside 1 · cross-entropy on CIFAR-100, the last map of every stage (the protocol of Tian
et al. 2020, https://arxiv.org/abs/1910.10699).

Beware. It says nothing of a map of 1×1, where all channels are alike once their length is 1. Between networks
that are built differently it went either way: MobileNetV2 under VGG13 fell to 58.2 % from 64.6 % alone,
ShuffleNetV1 under ResNet32×4 rose to 74.1 % from 70.5 % (Tian et al. 2020).
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._maps import check_maps, check_same_samples, same_size
from limbeck.methods._parts import paired, widen
from limbeck.methods._relations import directions, unscaled
from limbeck.methods.base import Method

__all__ = ["NeuronSelectivity", "neuron_selectivity"]


def neuron_selectivity(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the normalised channels of each sample.

    Args:
        student: [B, C, H, W].
        teacher: [B, C', H', W'], of any width and size: the larger map is average-pooled to the smaller.

    Returns:
        A scalar >= 0, mean over samples.

    Raises:
        ValueError: features that are no maps, or not of the same samples.
    """
    check_maps("neuron_selectivity", (student, teacher))
    check_same_samples("neuron_selectivity", student, teacher)
    ours, theirs = (directions(unscaled(x).flatten(2)) for x in same_size(widen(student), widen(teacher)))
    # Autocast would compute the products in half precision.
    with torch.autocast(ours.device.type, enabled=False):
        return (_kernel(ours, ours) + _kernel(theirs, theirs) - 2 * _kernel(ours, theirs)).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    """Mean of (a_i·b_j)² over all pairs of channels, [B]."""
    widths, places = (a.shape[1], b.shape[1]), a.shape[2]
    if places < min(widths):  # the same sum over pairs of places, of which there are fewer
        return ((a.mT @ a) * (b.mT @ b)).sum((1, 2)) / (widths[0] * widths[1])
    return (a @ b.mT).square().mean((1, 2))


class NeuronSelectivity(Method):
    """Maximum mean discrepancy between the channels of both networks (Huang and Wang 2017)."""

    paper = (
        "Huang, Wang (2017), Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, "
        "https://arxiv.org/abs/1707.01219"
    )
    aliases = ("nst",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    prefers = "stages"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 50.0}
    unlike = (
        "Neuron selectivity transfer went either way between networks that are built differently: on "
        "CIFAR-100 MobileNetV2 under VGG13 fell to 58.2 % from 64.6 % alone, while ShuffleNetV1 under "
        "ResNet32×4 rose to 74.1 % from 70.5 % (Tian et al. 2020, https://arxiv.org/abs/1910.10699, Table 2)."
    )

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("neuron_selectivity", student, teacher)
        return torch.stack([neuron_selectivity(*pair) for pair in pairs]).sum()
