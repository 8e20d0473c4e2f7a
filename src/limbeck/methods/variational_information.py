"""Variational information distillation: the student's features tell as much as they can about the teacher's.

S. Ahn, S. X. Hu, A. Damianou, N. D. Lawrence, Z. Dai, Variational Information Distillation for Knowledge
Transfer, CVPR 2019, https://arxiv.org/abs/1904.05835.

    L = Σ_pairs mean( ½ (μ(F_s) − F_t)² / σ²_c + ½ log σ²_c ),    σ²_c = softplus(α_c) + 1e-5

the negative log-likelihood of the teacher's feature under a Gaussian: its mean μ is a regressor of the
student's feature, its variance one number α_c for each of the teacher's channels. Both are learned along and
thrown away after. Minimising it raises a lower bound of the mutual information of both features.

Conventions. The mean is over all elements, and the constant ½ log 2π is left out. The regressor is the CIFAR
collections': three 1×1 convolutions without bias, of the teacher's width, with ReLU between. Where two maps
differ in size, the larger is average-pooled to the smaller, before the regressor. Several pairs add up. Half
precision: the regressor follows autocast, the likelihood is computed in float32.

Published: weight 1 beside 1 · cross-entropy on CIFAR-100, the last map of every stage, with an initial
variance of 5 (the protocol of Tian et al. 2020, https://arxiv.org/abs/1910.10699).

Beware. The loss has no least value: it falls without end, and below zero, as a channel becomes predictable.
A channel of the teacher that is constant drives its variance towards 1e-5, where a small error costs much.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import conv
from limbeck.methods._maps import check_maps, check_one_shape, same_size
from limbeck.methods._parts import check_number, check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["VariationalInformation", "variational_information"]

LEAST = 1e-5
"""Added to the variance, which would reach zero for a channel that never changes."""


def variational_information(prediction: Tensor, teacher: Tensor, log_scale: Tensor) -> Tensor:
    """Negative log-likelihood of the teacher's feature under a Gaussian around the prediction.

    Args:
        prediction: [B, C, H, W], the regressed student feature.
        teacher: [B, C, H', W']; the larger map is average-pooled to the smaller.
        log_scale: [C], the variance of each channel before its softplus.

    Returns:
        A scalar, mean over all elements, without the constant ½ log 2π; it may be negative.

    Raises:
        ValueError: features that are no maps, or shapes that do not belong together.
    """
    check_maps("variational_information", (prediction, teacher))
    ours, theirs = same_size(widen(prediction), widen(teacher))
    check_one_shape("variational_information", ours, theirs)
    if log_scale.shape != ours.shape[1:2]:
        raise ValueError(
            f"variational_information needs one log_scale for each of the {ours.shape[1]} channels; "
            f"got {list(log_scale.shape)}"
        )
    variance = (F.softplus(widen(log_scale)) + LEAST)[:, None, None]
    return 0.5 * ((ours - theirs).square() / variance + variance.log()).mean()


class VariationalInformation(Method):
    """Gaussian likelihood of the teacher's features given the student's (Ahn et al. 2019).

    Args:
        initial_variance: what every channel starts with, > 1e-5.

    Raises:
        ValueError: `initial_variance` is out of range; in `setup`, features that are no maps.
    """

    paper = (
        "Ahn, Hu, Damianou, Lawrence, Dai (2019), Variational Information Distillation for Knowledge "
        "Transfer, https://arxiv.org/abs/1904.05835"
    )
    aliases = ("vid",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    prefers = "stages"
    published: ClassVar[Mapping[str, object]] = {"weight": 1.0, "initial_variance": 5.0}

    def __init__(self, initial_variance: float = 5.0) -> None:
        super().__init__()
        self.initial_variance = check_number("initial_variance", initial_variance, above=LEAST)
        self.regressors = nn.ModuleList()
        self.log_scales = nn.ParameterList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("variational_information", probe.student, probe.teacher)
        check_maps("variational_information", [feature for pair in pairs for feature in pair])
        self.regressors = nn.ModuleList(_regressor(*pair, probe.generator) for pair in pairs)
        scale = self.initial_variance - LEAST
        inverse = scale + math.log(-math.expm1(-scale))  # of the softplus, without overflow
        self.log_scales = nn.ParameterList(
            torch.full((theirs.shape[1],), inverse, device=ours.device, dtype=widen(ours).dtype)
            for ours, theirs in pairs
        )

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("variational_information", student, teacher)
        check_set_up("variational_information", len(self.regressors), len(pairs))
        losses = []
        for regressor, scale, pair in zip(self.regressors, self.log_scales, pairs, strict=True):
            ours, theirs = same_size(*map(widen, pair))
            losses.append(variational_information(regressor(ours), theirs, scale))
        return torch.stack(losses).sum()


def _regressor(ours: Tensor, theirs: Tensor, generator: torch.Generator) -> nn.Module:
    """From the student's map to the mean of the teacher's."""
    width = theirs.shape[1]
    return nn.Sequential(
        conv(ours.shape[1], width, 1, generator),
        nn.ReLU(),
        conv(width, width, 1, generator),
        nn.ReLU(),
        conv(width, width, 1, generator, gain="linear"),
    ).to(device=ours.device, dtype=widen(ours).dtype)
