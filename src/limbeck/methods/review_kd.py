"""Knowledge review: each of the student's levels, joined with all deeper ones, learns from the teacher's.

P. Chen, S. Liu, H. Zhao, J. Jia, Distilling Knowledge via Knowledge Review, CVPR 2021,
https://arxiv.org/abs/2104.09044.

    L = Σ_levels HCL(U_i, F_t,i)
    HCL(U, F) = [ Σ_k w_k · mean( (P_k U − P_k F)² ) ] / Σ_k w_k,    k ∈ {full, 4, 2, 1}, w = 1, 1/2, 1/4, …

with P_k average pooling to k × k places; a k that is not below the map's own size is left out. From the
deepest level to the shallowest, a fusion makes U_i of the student's map and of what the deeper ones left:

    x = BN(conv1(F_s,i)),    [a, b] = σ(conv1([x, R])),    R' = a · x + b · R,    U_i = BN(conv3(R'))

R is the R' of the next deeper level, brought to this level's size; the deepest level has none and R' = x.
conv1 and conv3 are convolutions of 1×1 and 3×3, a and b one number for each place.

Levels. The pairs, written from shallow to deep; `pooled` puts one more on top of them, the last maps averaged
over their places, as the CIFAR models have it. What is averaged is first passed through a ReLU, which does
nothing to maps that have been through one: so it is the embedding that a network of ReLUs has there.

Conventions. The mean is over all elements, levels add up. A fused map takes the size of the teacher's: where
it is smaller its values are repeated (nearest), where it is larger it is average-pooled; the authors' code
picks single places there. Half precision: the fusions follow autocast, the difference is computed in float32.

Published: weight 5 beside 1 · cross-entropy on CIFAR-100 (resnet32x4 to resnet8x4, and most other pairs of
networks; 0.6 and 1 for the narrow resnet20 and resnet32, 8 for ShuffleNet V2), with the weight rising
linearly over the first 20 epochs: write it as a ramp in the recipe. The teacher's maps are those before the
last ReLU of a stage; the student's are those after it in the authors' code, before it here.

Beware. BatchNorm in the fusions makes the loss depend on the batch as a whole, so a batch in parts or on
several processes gives another loss than in one; and the pooled level has one value for each sample, which
BatchNorm refuses in a batch of one.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import conv
from limbeck.methods._maps import check_maps, check_one_shape, shrink
from limbeck.methods._parts import check_count, check_set_up, check_switch, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["ReviewKD", "hierarchical_context"]


def hierarchical_context(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two maps, in full and pooled to 4, 2 and 1 places a side.

    Args:
        student: [B, C, H, W].
        teacher: [B, C, H, W].

    Returns:
        A scalar >= 0, weighted mean over the sizes, mean over all elements of each.

    Raises:
        ValueError: no maps, or not of one shape.
    """
    check_maps("hierarchical_context", (student, teacher))
    check_one_shape("hierarchical_context", student, teacher)
    # Pooling is linear: the difference can be taken first.
    difference = widen(student) - widen(teacher)
    sizes = [size for size in (4, 2, 1) if size < min(difference.shape[2:])]
    loss = difference.square().mean()
    for halvings, size in enumerate(sizes, 1):
        loss = loss + F.adaptive_avg_pool2d(difference, size).square().mean() / 2**halvings
    return loss / (2 - 0.5 ** len(sizes))


class ReviewKD(Method):
    """Fused levels of the student against the teacher's, by hierarchical context (Chen et al. 2021).

    Args:
        pooled: add a level on top, the last map averaged over its places.
        width: channels inside the fusions; None: as many as the student's last map has, 512 at most.

    Raises:
        ValueError: an option is out of range; in `setup`, features that are no maps; when called, other
            features than it was set up for.
    """

    paper = (
        "Chen, Liu, Zhao, Jia (2021), Distilling Knowledge via Knowledge Review, "
        "https://arxiv.org/abs/2104.09044"
    )
    aliases = ("reviewkd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 5.0}
    prefers = "before_relu"

    def __init__(self, pooled: bool = True, width: int | None = None) -> None:
        super().__init__()
        self.pooled = check_switch("pooled", pooled)
        self.width = None if width is None else check_count("width", width)
        self.fusions = nn.ModuleList()

    def _levels(self, student: Knowledge, teacher: Knowledge | None) -> list[tuple[Tensor, Tensor]]:
        """The levels' pairs of maps, from deep to shallow."""
        pairs = [(widen(a), widen(b)) for a, b in paired("review_kd", student, teacher)]
        check_maps("review_kd", [feature for pair in pairs for feature in pair])
        if self.pooled:
            ours, theirs = (feature.relu().mean((2, 3), keepdim=True) for feature in pairs[-1])
            pairs.append((ours, theirs))
        return pairs[::-1]

    def setup(self, probe: Probe) -> None:
        levels = self._levels(probe.student, probe.teacher)
        width = self.width or min(512, levels[0][0].shape[1])
        self.fusions = nn.ModuleList(
            _Fusion(ours.shape[1], width, theirs.shape[1], probe.generator, deepest=depth == 0).to(
                device=ours.device, dtype=ours.dtype
            )
            for depth, (ours, theirs) in enumerate(levels)
        )

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        levels = self._levels(student, teacher)
        more = int(self.pooled)  # the average stands for a level of its own
        check_set_up("review_kd", max(len(self.fusions) - more, 0), len(levels) - more)
        losses: list[Tensor] = []
        left = None
        for fusion, (ours, theirs) in zip(self.fusions, levels, strict=True):
            fused, left = fusion(ours, left, theirs.shape[2:])
            losses.append(hierarchical_context(fused, theirs))
        return torch.stack(losses).sum()


class _Fusion(nn.Module):
    """A level's map, joined with what the deeper ones left."""

    def __init__(
        self, inputs: int, width: int, outputs: int, generator: torch.Generator, *, deepest: bool
    ) -> None:
        super().__init__()
        self.enter = nn.Sequential(conv(inputs, width, 1, generator, gain="linear"), nn.BatchNorm2d(width))
        self.attention = None if deepest else conv(2 * width, 2, 1, generator, bias=True, gain="linear")
        self.leave = nn.Sequential(conv(width, outputs, 3, generator, gain="linear"), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor, left: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The fused map of the teacher's width and `size`, and what it leaves to the next shallower level."""
        x = self.enter(x)
        if self.attention is not None and left is not None:
            left = _resized(left, x.shape[2:])
            shares = self.attention(torch.cat([x, left], 1)).sigmoid()
            x = shares[:, :1] * x + shares[:, 1:] * left
        x = _resized(x, size)
        return self.leave(x), x


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    x = shrink(x, size)
    return x if x.shape[2:] == tuple(size) else F.interpolate(x, tuple(size), mode="nearest")
