"""Views of images: what augmentation makes of a sample in one pass.

`TensorViews` works on whole batches of small images in memory, because torchvision's transforms cost more
for each such image than the training step does; `ImageViews` is torchvision's own for photographs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import draw
from limbeck.errors import InputError, unknown

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageViews", "TensorViews", "to_unit"]

_PLACE = "data.views"


def to_unit(images: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]: bytes are divided by 255, floats are taken as they are."""
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    return images.to(torch.float32)


class _Options:
    """Building from a recipe's mapping, with errors that name the key."""

    @classmethod
    def make(cls, given: Mapping[str, Any] | None, usual: Mapping[str, Any] | None = None) -> Self:
        """The views with the options given, the source's usual ones, then the defaults.

        Raises:
            InputError: a key that does not exist, or a value that is not possible.
        """
        allowed = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        for key in given or {}:
            if key not in allowed:
                raise unknown("key", str(key), allowed, where=_PLACE)
        return cls(**{**(usual or {}), **(given or {})})


def _check_bool(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(f"{_PLACE}.{name}: must be true or false, got {value!r}")


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{_PLACE}.{name}: must be a whole number from {least} up, got {value!r}")


@dataclass(frozen=True)
class TensorViews(_Options):
    """Random shift and mirroring of batched images; a function of (seed, index, view).

    Attributes:
        crop: the image is padded by this many zero pixels and cut back to its size at a random place.
        flip: half of the views are mirrored left to right.
    """

    crop: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        _check_count("crop", self.crop, 0)
        _check_bool("flip", self.flip)

    def __call__(self, images: Tensor, index: NDArray[np.int64], view: int, seed: int) -> Tensor:
        """The views of a batch: [B, C, H, W] of bytes or floats, to float32 in [0, 1], same shape."""
        pixels = images.numpy()
        if self.crop:
            pixels = self._shifted(pixels, index, view, seed)
        if self.flip:
            mirrored = (draw(seed, index, view, stream=2) >> np.uint64(63)).astype(bool)
            # Copied, so that the caller's images stay as they are.
            pixels = pixels if self.crop else pixels.copy()
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        return to_unit(torch.from_numpy(pixels))

    def _shifted(self, pixels: Any, index: NDArray[np.int64], view: int, seed: int) -> Any:
        pad, (count, channels, height, width) = self.crop, pixels.shape
        padded = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), dtype=pixels.dtype)
        padded[:, :, pad : pad + height, pad : pad + width] = pixels
        # The high bits scaled to 0..2 pad: unbiased to 1 in 2**32, and exact on every machine.
        bits, places = draw(seed, index, view, stream=1), np.uint64(2 * pad + 1)
        top = ((bits >> np.uint64(32)) * places) >> np.uint64(32)
        left = ((bits & np.uint64(0xFFFFFFFF)) * places) >> np.uint64(32)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        return windows[np.arange(count), :, top.astype(np.intp), left.astype(np.intp)]


@dataclass(frozen=True)
class ImageViews(_Options):
    """The usual views of photographs, by torchvision.

    Training: a random part of the image, resized to `size`, mirrored half of the time. Evaluation: the
    shorter side resized to `resize`, then the centre.

    Attributes:
        size: side of the square that comes out, in pixels.
        scale: least and greatest share of the image's area that a random part covers, in (0, 1].
        flip: half of the training views are mirrored left to right.
        resize: shorter side before the centre is cut out; None means 256/224 of `size`.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    resize: int | None = None

    def __post_init__(self) -> None:
        _check_count("size", self.size, 1)
        _check_bool("flip", self.flip)
        if self.resize is not None:
            _check_count("resize", self.resize, self.size)
        scale = self.scale
        fits = isinstance(scale, list | tuple) and len(scale) == 2
        numbers = fits and all(isinstance(s, int | float) and not isinstance(s, bool) for s in scale)
        if not numbers or not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(
                f"{_PLACE}.scale: must be two shares of the area, least and greatest, in (0, 1], "
                f"got {scale!r}"
            )

    @cached_property
    def train(self) -> "Callable[[Image], Tensor]":
        """The random view of an image, to a byte tensor [C, size, size]."""
        from torchvision.transforms import v2

        part = v2.RandomResizedCrop(self.size, scale=tuple(self.scale), antialias=True)
        mirror = [v2.RandomHorizontalFlip()] if self.flip else []
        return v2.Compose([part, *mirror, v2.PILToTensor()])  # type: ignore[no-any-return]  # v2 has no types

    @cached_property
    def test(self) -> "Callable[[Image], Tensor]":
        """The view of an image for evaluation, to a byte tensor [C, size, size]."""
        from torchvision.transforms import v2

        resize = self.resize or round(self.size * 256 / 224)
        steps = [v2.Resize(resize, antialias=True), v2.CenterCrop(self.size), v2.PILToTensor()]
        return v2.Compose(steps)  # type: ignore[no-any-return]  # v2 has no types
