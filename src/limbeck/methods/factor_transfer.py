"""Factor transfer: the student learns a paraphrase of the teacher's feature instead of the feature itself.

J. Kim, S. Park, N. Kwak, Paraphrasing Complex Network: Network Compression via Factor Transfer, NeurIPS 2018,
https://arxiv.org/abs/1802.04977.

    first     L = mean( (d(e(F_t)) − F_t)² )
    then      L = mean( |q(r(F_s)) − q(e(F_t))|^p ),    q(f) = a / ‖a‖,  a = mean over channels of f²

The paraphraser, an encoder e and a decoder d, learns first to give the teacher's feature back from fewer
channels, the factor e(F_t). Then it stays as it is, and the translator r learns along with the student to
make the same factor of the student's feature. Both e and r are three 3×3 convolutions, d three transposed
ones, with a BatchNorm and a LeakyReLU of slope 0.1 behind each. All are thrown away after.

Conventions. The mean is over samples and places. The paper compares whole factors, of length 1; q, their
attention map of length 1, is the field's. Where two factors differ in size, the larger is average-pooled to
the smaller. A factor of zeros gets no gradient. Half precision: the layers follow autocast, the losses are
computed in float32.

Published: weight 200 beside 1 · cross-entropy on CIFAR-100, the last map, after 30 epochs of the paraphraser
(the protocol of Tian et al. 2020, https://arxiv.org/abs/1910.10699). The paraphraser of that protocol's
public code has no BatchNorm, unlike the paper's: `normalize: false`.

Beware. Without its stage the paraphraser is random, and there is a loss all the same. BatchNorm in the
translator makes the loss depend on the batch as a whole, so a batch in parts or on several processes gives
another loss than in one.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import conv
from limbeck.methods._maps import check_maps, check_same_samples, same_size
from limbeck.methods._parts import check_number, check_set_up, check_switch, paired, taught, widen
from limbeck.methods._relations import directions, unscaled
from limbeck.methods.base import Method, Probe

__all__ = ["FactorTransfer", "factor_transfer"]


def factor_transfer(student: Tensor, teacher: Tensor, *, p: float = 1.0) -> Tensor:
    """Distance of two factors' attention maps of length 1.

    Args:
        student: [B, C, H, W], the translator's answer.
        teacher: [B, C', H', W'], the paraphraser's; the larger map is average-pooled to the smaller.
        p: power of the distance, >= 1.

    Returns:
        A scalar >= 0, mean over samples and places.

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_maps("factor_transfer", (student, teacher))
    check_same_samples("factor_transfer", student, teacher)
    ours, theirs = map(_attention, same_size(widen(student), widen(teacher)))
    return (ours - theirs).abs().pow(p).mean()


def _attention(factor: Tensor) -> Tensor:
    return directions(unscaled(factor).square().mean(1).flatten(1))


class FactorTransfer(Method):
    """A learned paraphrase of the teacher's feature, translated from the student's (Kim et al. 2018).

    Args:
        rate: the factor's channels as a share of the teacher's, > 0.
        p: power of the distance, >= 1.
        normalize: put a BatchNorm behind each of the paraphraser's convolutions, as the paper does.

    Raises:
        ValueError: an option is out of range; in `setup`, another number of pairs than one, or features that
            are no maps.
    """

    paper = (
        "Kim, Park, Kwak (2018), Paraphrasing Complex Network: Network Compression via Factor Transfer, "
        "https://arxiv.org/abs/1802.04977"
    )
    aliases = ("ft",)
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["one"]] = "one"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 200.0, "normalize": False}
    stage = "layers"

    def __init__(self, rate: float = 0.5, p: float = 1.0, normalize: bool = True) -> None:
        super().__init__()
        self.rate = check_number("rate", rate, above=0)
        self.p = check_number("p", p, least=1)
        self.normalize = check_switch("normalize", normalize)
        self.paraphraser = nn.Sequential()
        self.translator = nn.Sequential()

    @property
    def prepared(self) -> nn.Module:
        return self.paraphraser

    def setup(self, probe: Probe) -> None:
        pairs = paired("factor_transfer", probe.student, probe.teacher)
        if len(pairs) != 1:
            raise ValueError(f"factor_transfer compares one pair of features, got {len(pairs)}")
        ours, theirs = pairs[0]
        check_maps("factor_transfer", pairs[0])
        mine, their = ours.shape[1], theirs.shape[1]
        few = max(1, int(self.rate * their))
        encoder = _stack((their, their, few, few), probe.generator, normalize=self.normalize)
        decoder = _stack((few, few, their, their), probe.generator, normalize=self.normalize, transposed=True)
        self.paraphraser = nn.Sequential(encoder, decoder).to(theirs.device, widen(theirs).dtype)
        # Only the stage before turns these on: without it, they are what they are.
        self.paraphraser.requires_grad_(False).eval()
        translator = _stack((mine, mine, few, few), probe.generator)
        self.translator = translator.to(ours.device, widen(ours).dtype)

    def prepare(self, teacher: Knowledge, batch: Batch) -> Tensor:
        features = taught("factor_transfer", teacher).features
        self._check(len(features))
        feature = widen(features[0])
        return F.mse_loss(widen(self.paraphraser(feature)), feature)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("factor_transfer", student, teacher)
        self._check(len(pairs))
        ours, theirs = pairs[0]
        with torch.no_grad():
            factor = self.paraphraser[0](widen(theirs))
        return factor_transfer(self.translator(widen(ours)), factor, p=self.p)

    def _check(self, found: int) -> None:
        check_set_up("factor_transfer", 1 if len(self.paraphraser) else 0, found)


def _stack(
    widths: tuple[int, ...], generator: torch.Generator, *, normalize: bool = True, transposed: bool = False
) -> nn.Sequential:
    """Convolutions from width to width, each with what follows it."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts.append(conv(inputs, outputs, 3, generator, bias=not normalize, transposed=transposed))
        if normalize:
            parts.append(nn.BatchNorm2d(outputs))
        parts.append(nn.LeakyReLU(0.1))
    return nn.Sequential(*parts)
