"""Overhaul of feature distillation: features before the ReLU, without what a ReLU would not let through.

B. Heo, J. Kim, S. Yun, H. Park, N. Kwak, J. Y. Choi, A Comprehensive Overhaul of Feature Distillation,
ICCV 2019, https://arxiv.org/abs/1904.01866.

    L = Σ_levels 2^−(n−1−i) · (1/B) Σ_n Σ_chw  δ²,    t = max(F_t, m_c)
    δ = r(F_s) − t,  but 0 where  r(F_s) <= t <= 0

The margin ReLU max(·, m_c) leaves what is positive and cuts what is negative at a margin m_c < 0 of the
channel, the mean of its negative values. Where the target is not positive, a student below it is right
already: the next layer's ReLU makes zero of both. r is a 1×1 convolution and a BatchNorm, learned with the
student.

Margins. Where the teacher was tapped at a BatchNorm (or a Sequential that ends in one), its values are taken
for Gaussian, with the bias for mean and |weight| for standard deviation, and m is the mean of those below
zero; a channel of which no more than 1 in 1000 are negative has m = −3 |weight|, as in the authors' code.
Tapped elsewhere (what enters a ReLU, a block's sum), m is the mean of the channel's negative values on the
probe batch, 0 where there are none; the authors take the last BatchNorm of the block, though its values are
only a part of the sum. Tap a BatchNorm's output and not its input: the two cannot be told apart here.

Conventions. Sum over a sample's features, mean over the batch. Level i of n, from shallow to deep as the
pairs are written, weighs 2^−(n−1−i): half of the next deeper one. The larger of two maps is average-pooled to
the smaller, before regressor and margin. Half precision: the regressor follows autocast, the difference is
computed in float32.

Published: weight 0.001 beside 1 · cross-entropy on CIFAR-100, on the last map of every stage, before its ReLU
on both sides.

Beware. The loss is a sum: larger maps and more channels make it larger. BatchNorm in the regressor makes it
depend on the batch as a whole, so a batch in parts or on several processes gives another loss than in one.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import conv
from limbeck.methods._maps import check_maps, check_one_shape, same_size
from limbeck.methods._parts import check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["MarginReLU", "margin_relu"]


def margin_relu(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """Partial squared difference of a regressed student feature and the margin ReLU of the teacher's.

    Args:
        student: [B, C, H, W], already of the teacher's width.
        teacher: the same, before the ReLU; H and W may differ: the larger map is average-pooled to the
            smaller.
        margin: [1, C, 1, 1], nowhere above 0.

    Returns:
        A scalar >= 0, sum over channels and places, mean over samples.

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_maps("margin_relu", (student, teacher))
    student, teacher = same_size(widen(student), widen(teacher))
    check_one_shape("margin_relu", student, teacher)
    if margin.shape != (1, teacher.shape[1], 1, 1):
        raise ValueError(
            f"margin_relu needs a margin [1, {teacher.shape[1]}, 1, 1] for these channels; "
            f"got {list(margin.shape)}"
        )
    target = torch.maximum(teacher, widen(margin))
    matters = (student > target) | (target > 0)
    return torch.where(matters, student - target, 0.0).square().flatten(1).sum(1).mean()


class MarginReLU(Method):
    """Features before the ReLU, where they matter after it (Heo et al. 2019).

    Raises:
        ValueError: in `setup`, features that are no maps, or of the teacher one that is never negative; when
            called, other features than it was set up for.
    """

    paper = (
        "Heo, Kim, Yun, Park, Kwak, Choi (2019), A Comprehensive Overhaul of Feature Distillation, "
        "https://arxiv.org/abs/1904.01866"
    )
    aliases = ("ofd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 1e-3}
    prefers = "before_relu"

    def __init__(self) -> None:
        super().__init__()
        self.regressors = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("margin_relu", probe.student, probe.teacher)
        modules = probe.teacher_modules or (None,) * len(pairs)
        regressors = []
        for level, ((ours, theirs), module) in enumerate(zip(pairs, modules, strict=True)):
            check_maps("margin_relu", (ours, theirs))
            regressor = nn.Sequential(
                conv(ours.shape[1], theirs.shape[1], 1, probe.generator, gain="linear"),
                nn.BatchNorm2d(theirs.shape[1]),
            )
            regressors.append(regressor.to(device=ours.device, dtype=widen(ours).dtype))
            margin = _margin(theirs, module).to(device=ours.device, dtype=widen(ours).dtype)
            self.register_buffer(f"margin{level}", margin)
        self.regressors = nn.ModuleList(regressors)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("margin_relu", student, teacher)
        check_set_up("margin_relu", len(self.regressors), len(pairs))
        losses = []
        for level, (regressor, pair) in enumerate(zip(self.regressors, pairs, strict=True)):
            ours, theirs = same_size(*map(widen, pair))
            loss = margin_relu(regressor(ours), theirs, self.get_buffer(f"margin{level}"))
            losses.append(loss / 2 ** (len(pairs) - 1 - level))
        return torch.stack(losses).sum()


def _margin(feature: Tensor, module: nn.Module | None) -> Tensor:
    """The margins of a teacher's feature [B, C, H, W] that was tapped at `module`, [1, C, 1, 1]."""
    feature = feature.detach().cpu().double()  # not every device has doubles
    negative = feature < 0
    if not bool(negative.any()):
        raise ValueError(
            "margin_relu needs the teacher's features before the ReLU, and this one of shape "
            f"{list(feature.shape)} is never negative on the probe batch: tap the BatchNorm before the ReLU "
            '("layer2.1.bn2") or what enters the ReLU ("layer2.1.relu:in")'
        )
    while isinstance(module, nn.Sequential) and len(module):
        module = module[-1]
    # Layers derived from BatchNorm are left out: they may end in a non-linearity of their own.
    if (
        isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm)
        and type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm)
        and module.affine
        and module.num_features == feature.shape[1]
    ):
        margin = _mean_below_zero(module.bias.detach().cpu().double(), module.weight.detach().cpu().double())
    else:
        margin = (feature * negative).sum((0, 2, 3)) / negative.sum((0, 2, 3)).clamp(min=1)
    return margin.reshape(1, -1, 1, 1)


def _mean_below_zero(mean: Tensor, scale: Tensor) -> Tensor:
    """Mean of the negative values of Gaussians; −3 standard deviations where there are hardly any."""
    deviation = scale.abs()
    zero = -mean / deviation.clamp(min=1e-30)
    # The density at zero by the share below it, as a difference of logarithms: both may be tiny.
    ratio = torch.exp(-zero.square() / 2 - torch.special.log_ndtr(zero)) / math.sqrt(2 * math.pi)
    return torch.where(torch.special.ndtr(zero) > 0.001, mean - deviation * ratio, -3 * deviation)
