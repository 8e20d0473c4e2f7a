"""Masked generative distillation: from part of its feature the student makes the whole of the teacher's.

Z. Yang, Z. Li, M. Shao, D. Shi, Z. Yuan, C. Yuan, Masked Generative Distillation, ECCV 2022,
https://arxiv.org/abs/2205.01529.

    L = Σ_pairs (1/B) Σ_n Σ_chw ( G(M · a(F_s)) − F_t )²,    G = conv3 ∘ ReLU ∘ conv3

with a mask M of zeros and ones that is drawn anew at every step, and a an alignment, a 1×1 convolution where
the widths differ and nothing where they agree. a and G are learned with the student and thrown away after.

Masks. Each number of M is 0 with probability `ratio`. `channels`, the default, draws one number for each
sample and channel, as the authors' code for classification does; `positions` one for each sample and place,
as the paper writes it and as goes with detection and segmentation. What is left is not scaled up.

Conventions. Sum over channels and places, mean over samples, as in the authors' code; pairs add up. The
larger of two maps is average-pooled to the smaller, before a. The mask comes from torch's generator. Half
precision: a and G follow autocast, the difference is computed in float32.

Published: weight 7e-5 with ratio 0.15 beside 1 · cross-entropy on ImageNet, one pair, the last map. Ratios
from 0.45 to 0.75 go with detection and segmentation; the default is in between.

Beware. The loss is a sum: the weight goes with maps of 7 × 7 places and 512 or more channels, and on smaller
ones the loss is smaller. G has 18 · C² weights, for a wide teacher more than a student.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import aligned, conv
from limbeck.methods._maps import check_maps, check_one_shape, same_size
from limbeck.methods._parts import check_choice, check_number, check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["MaskedGenerative", "masked_generative"]


def masked_generative(
    student: Tensor, teacher: Tensor, kept: Tensor, generation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Squared difference of the teacher's feature and what is generated of a masked one of the student's.

    Args:
        student: [B, C, H, W], already of the teacher's width.
        teacher: [B, C, H, W].
        kept: what of the student's is kept (1 or True) or masked (0 or False): [B, C, 1, 1], [B, 1, H, W], or
            any shape that broadcasts to the feature's.
        generation: from a map to another of the same shape.

    Returns:
        A scalar >= 0, sum over channels and places, mean over samples.

    Raises:
        ValueError: no maps, or not of one shape.
    """
    check_maps("masked_generative", (student, teacher))
    check_one_shape("masked_generative", student, teacher)
    generated = generation(student * kept)
    check_one_shape("masked_generative", generated, teacher)
    return (widen(generated) - widen(teacher)).square().flatten(1).sum(1).mean()


class MaskedGenerative(Method):
    """The teacher's feature, generated of a masked one of the student's (Yang et al. 2022).

    Args:
        ratio: probability that something is masked, 0 <= ratio < 1.
        mask: what is masked: whole `channels`, or `positions` in all channels.

    Raises:
        ValueError: an option is out of range; in `setup`, features that are no maps; when called, other
            features than it was set up for.
    """

    paper = (
        "Yang, Li, Shao, Shi, Yuan, Yuan (2022), Masked Generative Distillation, "
        "https://arxiv.org/abs/2205.01529"
    )
    aliases = ("mgd",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    random = True
    published: ClassVar[Mapping[str, object]] = {"weight": 7e-5, "ratio": 0.15}

    def __init__(self, ratio: float = 0.5, mask: Literal["channels", "positions"] = "channels") -> None:
        super().__init__()
        self.ratio = check_number("ratio", ratio, least=0, below=1)
        self.mask = check_choice("mask", mask, ("channels", "positions"))
        self.alignments = nn.ModuleList()
        self.generations = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        alignments, generations = [], []
        for ours, theirs in paired("masked_generative", probe.student, probe.teacher):
            check_maps("masked_generative", (ours, theirs))
            alignments.append(aligned(ours, theirs, probe.generator, bias=True))
            generations.append(_generation(theirs.shape[1], probe.generator).to(widen(ours)))
        self.alignments, self.generations = nn.ModuleList(alignments), nn.ModuleList(generations)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("masked_generative", student, teacher)
        check_set_up("masked_generative", len(self.generations), len(pairs))
        losses = []
        for align, generate, pair in zip(self.alignments, self.generations, pairs, strict=True):
            ours, theirs = same_size(*map(widen, pair))
            losses.append(masked_generative(align(ours), theirs, self._kept(theirs), generate))
        return torch.stack(losses).sum()

    def _kept(self, feature: Tensor) -> Tensor:
        samples, channels, height, width = feature.shape
        shape = (samples, channels, 1, 1) if self.mask == "channels" else (samples, 1, height, width)
        return torch.rand(shape, device=feature.device) >= self.ratio


def _generation(width: int, generator: torch.Generator) -> nn.Module:
    return nn.Sequential(
        conv(width, width, 3, generator, bias=True),
        nn.ReLU(),
        conv(width, width, 3, generator, bias=True, gain="linear"),
    )
