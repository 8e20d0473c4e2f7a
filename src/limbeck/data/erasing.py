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
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import draw, uniform
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
            images: [B, C, H, W], float.
            index: sample numbers, [B].
            view: number of the view: one for all, or one for each, [B].
            seed: of the run.

        Returns:
            The images.
        """
        chosen = np.flatnonzero(uniform(draw(seed, index, view, _STREAM)) < self.probability)
        if not len(chosen):
            return images
        views = np.broadcast_to(np.asarray(view, dtype=np.int64), index.shape)
        channels, height, width = images.shape[1:]
        mean = torch.tensor(per_channel(IMAGENET_MEAN, channels)).view(-1, 1, 1)
        std = torch.tensor(per_channel(IMAGENET_STD, channels)).view(-1, 1, 1)
        for at in chosen:
            word = int(draw(seed, index[at : at + 1], int(views[at]), _STREAM + 1)[0])
            box = self._box(word, height, width)
            if box is None:
                continue
            top, left, tall, wide = box
            if self.value == "zero":
                patch = mean.expand(channels, tall, wide)
            else:
                drawn = torch.Generator().manual_seed(word >> 1)
                patch = mean + std * torch.randn(channels, tall, wide, generator=drawn)
            images[at, :, top : top + tall, left : left + wide] = patch
        return images

    def _box(self, word: int, height: int, width: int) -> tuple[int, int, int, int] | None:
        """Top, left, height and width of a rectangle that fits; None where none of some attempts does."""
        tries = np.arange(_ATTEMPTS, dtype=np.int64)
        size, shape, y, x = (uniform(draw(word, tries, 0, stream)) for stream in range(4))
        area = (self.area[0] + size * (self.area[1] - self.area[0])) * height * width
        aspect = np.exp((2 * shape - 1) * math.log(_LONGEST))
        tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        for n in np.flatnonzero((tall >= 1) & (wide >= 1) & (tall < height) & (wide < width)):
            h, w = int(tall[n]), int(wide[n])
            return int(y[n] * (height - h + 1)), int(x[n] * (width - w + 1)), h, w
        return None
