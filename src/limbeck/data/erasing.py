"""Random erasing: rectangles of a view that are wiped out, a function of (seed, index, view).

Z. Zhong, L. Zheng, G. Kang, S. Li, Y. Yang, Random Erasing Data Augmentation, AAAI 2020,
https://arxiv.org/abs/1708.04896. timm's and torchvision's draw from global generators, sample by sample; this
one decides for a whole batch at once and can be replayed.

It works on the pixels that teacher and student see, before each one's own normalisation, so both miss the
same part. `random` fills it with noise for each pixel, normal with ImageNet's mean and deviation: a network
that normalises so sees standard normal noise. `zero` fills it with ImageNet's mean, which such a network sees
as zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import at, draw, more, uniform
from limbeck.data.options import Options, check_choice, check_number
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, per_channel

__all__ = ["Erasing"]

_STREAM = 64
"""Where its draws begin; the other views of samples have lower streams."""

_ATTEMPTS = 10
_LONGEST = 1 / 0.3
"""The longest side over the shortest: .3 to 1/.3, as in the paper."""


@dataclass(frozen=True)
class Erasing(Options):
    """What is erased.

    Attributes:
        probability: that a view has a rectangle erased.
        value: `random`, noise for each pixel; `zero`, what networks that normalise see as zero.
        area: least and greatest share of the image's area.

    Raises:
        InputError: a value is out of range.
    """

    where = "data.views.erase"

    probability: float = 0.0
    value: Literal["random", "zero"] = "random"
    area: tuple[float, float] = (0.02, 1 / 3)

    def __post_init__(self) -> None:
        check_number(f"{self.where}.probability", self.probability, 0, 1)
        check_choice(f"{self.where}.value", self.value, ("random", "zero"))
        if not isinstance(self.area, list | tuple) or len(self.area) != 2:
            self.refuse(f"area must be two shares, least and greatest, got {self.area!r}")
        for share in self.area:
            check_number(f"{self.where}.area", share, 0, 1)
        if not 0 < self.area[0] <= self.area[1]:
            self.refuse(f"area must be two shares above 0, least and greatest, got {self.area!r}")

    @classmethod
    def given(cls, found: "float | Mapping[str, Any] | None") -> "Erasing | None":
        """What a recipe gives: a mapping, a bare probability, or nothing; None where nothing is erased."""
        if found is None:
            return None
        if isinstance(found, Mapping):
            made = cls.make(found, {"probability": 0.25})
        else:
            check_number(cls.where, found, 0, 1)
            made = cls(probability=found)
        return made if made.probability else None

    def __call__(
        self, images: Tensor, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int
    ) -> Tensor:
        """Erase in place.

        Args:
            images: [B, C, H, W], float32 on the CPU.
            index: sample numbers, [B].
            view: number of the view: one for all, or one for each, [B].
            seed: of the run.

        Returns:
            The images.
        """
        channels, height, width = images.shape[1:]
        chosen, boxes, keys = self.rectangles(index, view, seed, height, width)
        mean, std = self.constant(channels), _statistics(IMAGENET_STD, channels)
        pixels: NDArray[np.float32] = images.numpy()
        noise = iter(_noise(keys, boxes, channels)) if self.value == "random" else None
        for number, (top, bottom, left, right) in zip(chosen.tolist(), boxes.tolist(), strict=True):
            wiped = pixels[number, :, top:bottom, left:right]
            if noise is None:
                wiped[...] = mean
            else:
                np.multiply(next(noise), std, out=wiped)
                wiped += mean
        return images

    def rectangles(
        self,
        index: NDArray[np.int64],
        view: int | NDArray[np.int64],
        seed: int,
        height: int,
        width: int,
    ) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.uint64]]:
        """Which of the views [B] lose which rectangle.

        Returns:
            Their places in the batch, [K]; top, bottom, left and right of each one's rectangle, [K, 4]; and
            the words from which its noise is drawn, [K].
        """
        chosen = np.flatnonzero(uniform(draw(seed, index, view, _STREAM)) < self.probability)
        keys = draw(seed, index, view, _STREAM + 1)[chosen]
        boxes, fit = self._boxes(keys, height, width)
        return chosen[fit], boxes[fit], keys[fit]

    def constant(self, channels: int) -> NDArray[np.float32]:
        """What `zero` fills each channel with, [C, 1, 1]."""
        return _statistics(IMAGENET_MEAN, channels)

    def _boxes(
        self, keys: NDArray[np.uint64], height: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Top, bottom, left and right of a rectangle for each key, [K, 4], and which of them fit, [K].

        As in the paper, shapes are drawn until one is smaller than the image, if not too often in vain.
        """
        drawn = uniform(more(keys, 2 * _ATTEMPTS + 2))
        size, shape = drawn[:, :_ATTEMPTS], drawn[:, _ATTEMPTS:-2]
        area = (self.area[0] + size * (self.area[1] - self.area[0])) * height * width
        aspect = np.exp((2 * shape - 1) * math.log(_LONGEST))
        tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fit = (tall >= 1) & (wide >= 1) & (tall < height) & (wide < width)
        first = fit.argmax(1)[:, None]
        tall, wide = (np.take_along_axis(sides, first, 1)[:, 0].astype(np.int64) for sides in (tall, wide))
        top = (drawn[:, -2] * (height - tall + 1)).astype(np.int64)
        left = (drawn[:, -1] * (width - wide + 1)).astype(np.int64)
        return np.stack([top, top + tall, left, left + wide], 1), np.asarray(fit.any(1))


def _statistics(values: Sequence[float], channels: int) -> NDArray[np.float32]:
    """ImageNet's mean or deviation for each channel, [C, 1, 1]."""
    return np.array(per_channel(values, channels), dtype=np.float32)[:, None, None]


def _noise(keys: NDArray[np.uint64], boxes: NDArray[np.int64], channels: int) -> list[NDArray[np.float32]]:
    """Standard normal noise for each box, [C, h, w] each; all of it is drawn at once, four from a word."""
    if not len(keys):
        return []
    tall, wide = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    counts = channels * tall * wide
    words = -(-counts // 4)
    ends = np.cumsum(words)
    own = np.arange(ends[-1]) - np.repeat(ends - words, words)
    # Behind the draws of the boxes, which begin with the same keys.
    bits = at(np.repeat(keys, words), own + 2 * _ATTEMPTS + 3)
    values = _quantiles()[bits.view(np.uint16)]
    starts = 4 * (ends - words)
    return [
        values[start : start + count].reshape(channels, h, w)
        for start, count, h, w in zip(
            starts.tolist(), counts.tolist(), tall.tolist(), wide.tolist(), strict=True
        )
    ]


@cache
def _quantiles() -> NDArray[np.float32]:
    """The middles of 2**16 equally likely stretches of the normal distribution, so that 16 bits pick one."""
    middles = (torch.arange(1 << 16, dtype=torch.float64) + 0.5) / (1 << 16)
    found: NDArray[np.float32] = torch.special.ndtri(middles).to(torch.float32).numpy()
    return found
