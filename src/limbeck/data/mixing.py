"""Mixing the samples of a batch: mixup and cutmix, drawn so that every mix can be replayed.

    mixup   x ← λ·x + (1 − λ)·x',   y ← λ·y + (1 − λ)·y',   λ ~ Beta(α, α)
    cutmix  a box of x' in x, λ = share of x that is left

H. Zhang, M. Cisse, Y. Dauphin, D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization, ICLR 2018,
https://arxiv.org/abs/1710.09412; S. Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers
with Localizable Features, ICCV 2019, https://arxiv.org/abs/1905.04899. The modes are those of timm.

timm's own mixing draws from NumPy's global generator and needs the whole batch in one process. Here a mix is
a function of (seed, pass, number of the batch, place in it): a teacher's answers to it can be replayed, a
resumed run goes on with the same mixes, and several processes, accumulated parts and workers make the same
ones. The partner of a sample is the one at the mirrored place, which the plan keeps in the same process. Beta
variables come from uniform ones through the inverse of their distribution, since NumPy does not promise that
its generators' streams stay the same.

The pixels are mixed before each network's own normalisation, which is affine: the order makes no difference.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import at, draw, more, uniform
from limbeck.data.options import Options, check_choice, check_number
from limbeck.data.plans import Share
from limbeck.knowledge import UNLABELLED

__all__ = ["Mix"]

_STREAM = 16
"""Where the draws of mixes begin; the views of samples have the lower streams."""

_AT_HAND = 1 << 17
"""Values that are mixed at a time, half a megabyte of them."""


@dataclass(frozen=True)
class Mix(Options):
    """How batches are mixed.

    Attributes:
        mixup: α of mixup's Beta distribution; 0 turns mixup off.
        cutmix: α of cutmix's; 0 turns cutmix off.
        probability: that there is a mix at all.
        switch: that it is cutmix, where both are on.
        mode: `batch`: one λ for a batch; `pair`: one for each two partners; `elem`: one for each sample.

    Raises:
        InputError: a value is out of range, or both are off.
    """

    where = "data.mix"

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    switch: float = 0.5
    mode: Literal["batch", "pair", "elem"] = "batch"

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            check_number(f"{self.where}.{name}", getattr(self, name), 0, 1000)
        for name in ("probability", "switch"):
            check_number(f"{self.where}.{name}", getattr(self, name), 0, 1)
        check_choice(f"{self.where}.mode", self.mode, ("batch", "pair", "elem"))
        if not self.mixup and not self.cutmix:
            self.refuse("one of mixup and cutmix must be above 0 (the usual: mixup 0.2, cutmix 1.0)")

    def __call__(
        self, images: Tensor, target: Tensor, share: Share, seed: int, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Mix what one process has of a batch.

        Args:
            images: [B, C, H, W], float32 on the CPU; changed in place.
            target: class indices [B], `UNLABELLED` where not known.
            share: which samples of which batch these are.
            seed: of the run.
            classes: C, the number of classes.

        Returns:
            The images, and class shares [B, C]. A sample without a label brings no share: the rows of what is
            mixed with it sum to less than 1.
        """
        known = (target != UNLABELLED)[:, None].to(images.dtype)
        own = images.new_zeros(len(target), classes).scatter_(1, target.clamp(min=0)[:, None], known)
        kept, boxes, weights = self.drawn(share, seed, images.shape[2], images.shape[3])
        _lay(images, boxes, weights)
        left = torch.from_numpy(kept).to(images.dtype)[:, None]
        return images, left * own + (1 - left) * own.flip(0)

    def drawn(
        self, share: Share, seed: int, height: int, width: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        """How each sample is mixed, or all of them where one draw is for all: [B], or [1].

        Returns:
            λ, the share of the sample's own label, [B]; the box (top, bottom, left, right) in which its
            partner is laid over it, [B, 4], the whole image for mixup; and the weight of the partner in
            there, [B], 1 for cutmix and 0 where nothing is mixed.
        """
        place = share.position
        if self.mode == "batch":
            place = np.zeros(1, dtype=np.int64)
        elif self.mode == "pair":
            place = np.minimum(place, share.whole - 1 - place)
        number = np.array([share.step], dtype=np.int64)
        words = at(draw(seed, number, share.turn, _STREAM), place + 1)
        applied, kind, level, y, x = uniform(more(words, 5)).T
        cut = kind < self.switch if self.mixup and self.cutmix else np.full(len(place), self.cutmix > 0)
        kept = _beta(np.where(cut, self.cutmix, self.mixup), level)
        boxes = np.array([[0, height, 0, width]]).repeat(len(place), 0)
        if cut.any():
            boxes[cut] = _boxes(kept[cut], y[cut], x[cut], height, width)
        weights = np.where(applied < self.probability, np.where(cut, 1.0, 1 - kept), 0.0)
        area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        return 1 - weights * area / (height * width), boxes, weights


def _boxes(
    kept: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64], height: int, width: int
) -> NDArray[np.int64]:
    """Boxes of the share 1 − λ around the centres, in shares of the sides; what lies outside is cut off."""
    sides = []
    for centre, length in ((y, height), (x, width)):
        long = (length * np.sqrt(1 - kept)).astype(np.int64)
        first = (centre * length).astype(np.int64) - long // 2
        sides += [np.maximum(first, 0), np.minimum(first + long, length)]
    return np.stack(sides, 1)


def _beta(alpha: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Beta(α, α) variables from uniform ones."""
    from scipy.special import betaincinv

    found: NDArray[np.float64] = betaincinv(alpha, alpha, at)
    return found


def _lay(images: Tensor, boxes: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
    """Lay over each image, in place, a part of the mirrored one; one box and weight may stand for all.

    A few partners at a time, while they are at hand in the processor's cache: several times faster than the
    whole batch at once. The middle one of an odd batch is its own partner, and stays.
    """
    if not weights.any():
        return
    pixels: NDArray[np.float32] = images.numpy()
    half, count = len(pixels) // 2, len(pixels)
    if len(boxes) > 1:
        for one in range(half):
            other = count - 1 - one
            _lay_two(pixels[one], pixels[other], boxes[[one, other]], weights[[one, other]])
        return
    part, together = _part(pixels, boxes[0]), max(1, _AT_HAND // pixels[0].size)
    for first in range(0, half, together):
        last = min(first + together, half)
        _exchange(part[first:last], part[count - last : count - first][::-1], weights[0])


def _exchange(one: NDArray[np.float32], other: NDArray[np.float32], weight: float) -> None:
    """Go from each of two towards the other by a weight, in place."""
    if weight == 1:
        taken = one.copy()
        one[...], other[...] = other, taken
    else:
        step = other - one
        step *= np.float32(weight)
        one += step
        other -= step


def _lay_two(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    boxes: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> None:
    """Lay parts of two images over each other, each with its own box and weight, [2, 4] and [2]."""
    # What the other takes of the one, before that is changed.
    taken = _part(one, boxes[1]).copy() if weights[1] else None
    _blend(_part(one, boxes[0]), _part(other, boxes[0]), weights[0])
    if taken is not None:
        _blend(_part(other, boxes[1]), taken, weights[1])


def _blend(pixels: NDArray[np.float32], others: NDArray[np.float32], weight: float) -> None:
    """Go from some pixels towards others by a weight, in place."""
    if weight == 1:
        pixels[...] = others
    elif weight:
        step = others - pixels
        step *= np.float32(weight)
        pixels += step


def _part(pixels: NDArray[np.float32], box: NDArray[np.int64]) -> NDArray[np.float32]:
    """The box (top, bottom, left, right) of images [..., H, W]."""
    top, bottom, left, right = box.tolist()
    return pixels[..., top:bottom, left:right]
