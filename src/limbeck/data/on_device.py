"""Small images on the accelerator: views and mixes made there, bit for bit those that the CPU makes.

A fast card is done with a small network's step before one core has made the next batch and sent its floats.
Here the pixels of all images lie on the device, once. For each batch the CPU draws only where windows,
mirrors and boxes lie, by the same code as `TensorViews`, `Erasing` and `Mix`, and sends these few numbers as
one small tensor; the pixels never move again. Nothing here waits for the device: no value is read back, and
no shape depends on one.

That the result is the same to the last bit takes two precautions. Bytes are divided by a tensor on the
device, since torch multiplies by the inverse of a plain number on CUDA. And the difference, product and sum
of a mix are three operations, since a fused one would round once instead of three times.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.erasing import Erasing
from limbeck.data.mixing import Mix
from limbeck.data.plans import Share
from limbeck.data.samples import Samples, TensorSamples, View
from limbeck.data.views import TensorViews
from limbeck.errors import InputError
from limbeck.knowledge import Batch

__all__ = ["DeviceMix", "DeviceSamples", "Fit", "fits"]

_AT_ONCE = 8192
"""Images that are sent at a time when they are placed, so that the device has room for few of them twice."""

_ROOM = 4
"""The images may take one part in so many of the device's free memory; the rest is the training's."""


@dataclass(frozen=True)
class Fit:
    """Whether views and mixes can be made on the device; true where they can.

    Attributes:
        why: what stands against it; empty where nothing does.
    """

    why: str = ""

    def __bool__(self) -> bool:
        return not self.why


def fits(samples: Samples, mix: Mix | None = None, device: torch.device | None = None) -> Fit:
    """Whether the views of some samples, and a mix of them, can be made on a device.

    Args:
        samples: the training split.
        mix: how its batches are mixed; None: not at all.
        device: where; None leaves its memory out of account.
    """
    if not isinstance(samples, TensorSamples):
        return Fit("the samples are read one by one, and not all in memory")
    # A class of somebody's own may make its batches in its own way.
    if type(samples) is not TensorSamples:
        return Fit(f"{type(samples).__name__} makes its batches on the CPU")
    views = samples.views
    if views is not None and type(views) is not TensorViews:
        return Fit(f"{type(views).__name__} makes its views on the CPU")
    if views is not None and views.rand_augment is not None:
        return Fit("data.views.rand_augment goes through Pillow, image by image")
    if views is not None and views.erasing is not None and views.erasing.value != "zero":
        return Fit('data.views.erase draws noise on the CPU; its value "zero" would do')
    if mix is not None and type(mix) is not Mix:
        return Fit(f"{type(mix).__name__} mixes on the CPU")
    if device is not None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        taken = samples.images.numel() * (1 if samples.images.dtype == torch.uint8 else 4)
        if taken > free // _ROOM:
            return Fit(
                f"the images take {taken / 1e9:.1f} GB, and {free / 1e9:.1f} GB of the device are free"
            )
    return Fit()


class DeviceSamples:
    """`TensorSamples` whose batches are made on a device.

    Args:
        samples: small images; see `fits`.
        device: where they are placed, and each batch with them. Where the training runs on a CPU, the
            samples themselves are several times faster.
        channels_last: the memory order of the images of a batch.

    Raises:
        InputError: the views of these samples cannot be made on a device.
    """

    def __init__(self, samples: TensorSamples, device: torch.device, *, channels_last: bool = False) -> None:
        fit = fits(samples)
        if not fit:
            raise InputError(f"data: views cannot be made on {device}: {fit.why}")
        self.classes = samples.classes
        self._device = device
        self._views = samples.views or TensorViews(crop=0, flip=False)
        self._order = torch.channels_last if channels_last else torch.contiguous_format
        self._pixels = _placed(samples.images, device)
        self._targets = samples.targets.to(device)
        self._most = torch.tensor(255.0, device=device) if samples.images.dtype == torch.uint8 else None
        constant = Erasing().constant(samples.channels)
        self._constant = torch.from_numpy(constant).to(device)

    def take(self, index: NDArray[np.int64], view: View, seed: int) -> Batch:
        """The samples with these numbers, as a batch on the device; see `Samples.take`."""
        if view is None:
            (numbers,) = _sent(index[None], self._device)
            images = self._pixels.index_select(0, numbers).permute(0, 3, 1, 2)
            return Batch(self._finished(images), self._targets[numbers], numbers)
        sent = _sent(self._drawn(index, view, seed), self._device)
        numbers, passes, window, box = sent[0], sent[1], sent[2:5], sent[5:]
        images = self._finished(_windows(self._pixels, numbers, window, self._views.crop > 0))
        if self._views.erasing is not None:
            images = torch.where(_inside(box, images), self._constant, images)
        return Batch(images, self._targets[numbers], numbers, passes)

    def _drawn(self, index: NDArray[np.int64], view: int | NDArray[np.int64], seed: int) -> NDArray[np.int64]:
        """What the device has to know of each sample, [5 or 9, B].

        Its number and view; the row of the image where its window begins, the column, and the step from
        column to column, -1 where it is mirrored; and the rectangle that is erased, empty where none is.
        """
        views, (height, width) = self._views, self._pixels.shape[1:3]
        top, left = (place - views.crop for place in views.shifts(index, view, seed))
        mirrored = views.mirrored(index, view, seed)
        passes = np.broadcast_to(np.asarray(view, dtype=np.int64), index.shape)
        drawn = [index, passes, top, np.where(mirrored, left + width - 1, left), np.where(mirrored, -1, 1)]
        if views.erasing is not None:
            boxes = np.zeros((len(index), 4), dtype=np.int64)
            chosen, found, _ = views.erasing.rectangles(index, view, seed, height, width)
            boxes[chosen] = found
            drawn += list(boxes.T)
        return np.stack(drawn)

    def _finished(self, images: Tensor) -> Tensor:
        """Pixels as `to_unit` makes them, in the memory order that was asked for."""
        floats = images.to(torch.float32, memory_format=self._order)
        return floats if self._most is None else floats.div_(self._most)


class DeviceMix:
    """`Mix` for batches that are on a device.

    Args:
        mix: how batches are mixed.
    """

    def __init__(self, mix: Mix) -> None:
        self._mix = mix

    def __call__(
        self, images: Tensor, target: Tensor, share: Share, seed: int, classes: int
    ) -> tuple[Tensor, Tensor]:
        """Mix what one process has of a batch; see `Mix`, but that nothing is changed in place."""
        kept, boxes, weights = self._mix.drawn(share, seed, images.shape[2], images.shape[3])
        # The floats travel as the integers of the same bits, so that all goes at once.
        floats = np.stack([kept, weights]).astype(np.float32).view(np.int32)
        laid = (weights == 1)[None]
        drawn = np.concatenate([floats, laid.astype(np.int32), boxes.T.astype(np.int32)])
        sent = _sent(drawn, images.device)
        left, weight = sent[:2].view(torch.float32)[:, :, None]
        partner = images.flip(0)
        mixed = (partner - images).mul_(weight[:, :, None, None]).add_(images)
        mixed = torch.where(sent[2].bool()[:, None, None, None], partner, mixed)
        own = (target[:, None] == torch.arange(classes, device=target.device)).to(images.dtype)
        return torch.where(_inside(sent[3:], images), mixed, images), left * own + (1 - left) * own.flip(0)


def _placed(images: Tensor, device: torch.device) -> Tensor:
    """Images [N, C, H, W] on a device as [N, H, W, C], bytes or float32: a pixel's channels side by side."""
    count, channels, height, width = images.shape
    dtype = torch.uint8 if images.dtype == torch.uint8 else torch.float32
    placed = torch.empty(count, height, width, channels, dtype=dtype, device=device)
    for there, here in zip(torch.split(placed, _AT_ONCE), torch.split(images, _AT_ONCE), strict=True):
        there.copy_(here.to(device).permute(0, 2, 3, 1))
    return placed


def _sent(numbers: NDArray[np.int64] | NDArray[np.int32], device: torch.device) -> Tensor:
    """Numbers on the device; the sending is waited for by what comes after it there, not here."""
    found = torch.from_numpy(np.ascontiguousarray(numbers))
    if device.type == "cuda":
        return found.pin_memory().to(device, non_blocking=True)
    return found.to(device)


def _windows(pixels: Tensor, numbers: Tensor, window: Tensor, beyond: bool) -> Tensor:
    """The window of each image, [B, C, H, W].

    Args:
        pixels: all images, [N, H, W, C].
        numbers: which of them, [B].
        window: first row, first column, and step from column to column, [3, B].
        beyond: windows may reach beyond the image, where zeros are.
    """
    height, width = pixels.shape[1:3]
    first_row, first_column, step = window[:, :, None]
    rows = first_row + torch.arange(height, device=pixels.device)
    columns = first_column + step * torch.arange(width, device=pixels.device)
    inner_rows, inner_columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    taken = pixels[numbers[:, None, None], inner_rows[:, :, None], inner_columns[:, None]]
    if beyond:
        outside = (rows != inner_rows)[:, :, None] | (columns != inner_columns)[:, None]
        taken.masked_fill_(outside[..., None], 0)
    return taken.permute(0, 3, 1, 2)


def _inside(boxes: Tensor, images: Tensor) -> Tensor:
    """Which pixels of images [B, C, H, W] are in boxes.

    Args:
        boxes: top, bottom, left and right, [4, B], or [4, 1] where one is for all.
        images: the images.

    Returns:
        [B, 1, H, W], or [1, 1, H, W].
    """
    top, bottom, left, right = boxes[:, :, None]
    rows = torch.arange(images.shape[2], device=images.device)
    columns = torch.arange(images.shape[3], device=images.device)
    tall, wide = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return torch.logical_and(tall[:, None, :, None], wide[:, None, None])
