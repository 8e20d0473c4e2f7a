"""Views of small images in memory: what augmentation makes of a batch of samples in one pass.

`TensorViews` works on whole batches, because torchvision's transforms cost more for each such image than the
training step does. RandAugment alone goes image by image through Pillow, about a tenth of a millisecond each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.augmenting import augmentation
from limbeck.data.erasing import Erasing
from limbeck.data.keyed import draw, reseed, restored
from limbeck.data.options import Options, check_bool, check_count
from limbeck.errors import InputError

__all__ = ["TensorViews", "to_unit"]

_SHIFT, _FLIP, _POLICY = 1, 2, 3
"""What is drawn for each sample; 0 is what a data set draws itself while its item is read."""


def to_unit(images: Tensor) -> Tensor:
    """Pixels as float32 in [0, 1]: bytes are divided by 255, floats are taken as they are."""
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255)
    return images.to(torch.float32)


@dataclass(frozen=True)
class TensorViews(Options):
    """Random shift, mirroring and more of batched images; a function of (seed, index, view).

    Attributes:
        crop: the image is padded by this many zero pixels and cut back to its size at a random place.
        flip: half of the views are mirrored left to right.
        rand_augment: RandAugment and its kin by timm's string, such as `rand-m7-mstd0.5`; None: none.
        erase: rectangles that are wiped out, as `Erasing` takes it: {probability, value, area}, or a bare
            probability; None: none.
    """

    crop: int = 4
    flip: bool = True
    rand_augment: str | None = None
    erase: float | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_count("data.views.crop", self.crop, 0)
        check_bool("data.views.flip", self.flip)
        if self.rand_augment is not None:
            augmentation(self.rand_augment, 32)  # for what it has to say against it
        _ = self.erasing

    @cached_property
    def erasing(self) -> Erasing | None:
        """What is erased of the finished views; None: nothing."""
        return Erasing.given(self.erase)

    def __call__(
        self, images: Tensor, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int
    ) -> Tensor:
        """The views of a batch.

        Args:
            images: [B, C, H, W], bytes or floats in [0, 1].
            index: sample numbers, [B].
            view: number of the view: one for all, or one for each, [B].
            seed: of the run.

        Returns:
            float32, of the same shape; in [0, 1] but for what was erased by noise.
        """
        pixels = images.numpy()
        if self.crop:
            pixels = self._shifted(pixels, index, view, seed)
        if self.flip:
            mirrored = self.mirrored(index, view, seed)
            # Copied, so that the caller's images stay as they are.
            pixels = pixels if self.crop else pixels.copy()
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        if self.rand_augment is not None:
            pixels = self._augmented(pixels, index, view, seed)
        finished = to_unit(torch.from_numpy(pixels))
        if self.erasing is None:
            return finished
        if finished.data_ptr() == images.data_ptr():  # the caller's own, which nothing has copied so far
            finished = finished.clone()
        return self.erasing(finished, index, view, seed)

    def _augmented(
        self, pixels: Any, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int
    ) -> Any:
        """Each image through timm's policy, as Pillow's images are."""
        from PIL import Image

        if pixels.dtype != np.uint8:
            raise InputError("data.views.rand_augment: needs images of bytes, and these are floats")
        channels = pixels.shape[1]
        if channels not in (1, 3):
            raise InputError(f"data.views.rand_augment: needs grey or colour images, not {channels} channels")
        change = augmentation(str(self.rand_augment), min(pixels.shape[2:]), channels=channels)
        # Pillow has the channels last, and none where there is one.
        made = np.array(pixels.transpose(0, 2, 3, 1), order="C")
        made = made[..., 0] if channels == 1 else made
        with restored():
            for number, word in enumerate(draw(seed, index, view, _POLICY).tolist()):
                reseed(word)
                made[number] = np.asarray(change(Image.fromarray(made[number])))
        return np.ascontiguousarray(made[:, None] if channels == 1 else made.transpose(0, 3, 1, 2))

    def _shifted(
        self, pixels: Any, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int
    ) -> Any:
        pad, (count, channels, height, width) = self.crop, pixels.shape
        padded = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), dtype=pixels.dtype)
        padded[:, :, pad : pad + height, pad : pad + width] = pixels
        top, left = self.shifts(index, view, seed)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
        return windows[np.arange(count), :, top, left]

    def shifts(
        self, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each view begins in its padded image: row and column, 0 to 2 `crop`, [B] each."""
        # The high bits scaled to the places: unbiased to 1 in 2**32, and exact on every machine.
        bits, places = draw(seed, index, view, _SHIFT), np.uint64(2 * self.crop + 1)
        top = ((bits >> np.uint64(32)) * places) >> np.uint64(32)
        left = ((bits & np.uint64(0xFFFFFFFF)) * places) >> np.uint64(32)
        return top.astype(np.int64), left.astype(np.int64)

    def mirrored(
        self, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int
    ) -> NDArray[np.bool_]:
        """Which of the views are mirrored left to right, [B]; none where `flip` is off."""
        if not self.flip:
            return np.zeros(len(index), dtype=np.bool_)
        return (draw(seed, index, view, _FLIP) >> np.uint64(63)).astype(np.bool_)
