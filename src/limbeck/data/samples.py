"""One split of a data set, asked for by sample number and pass."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from limbeck.data.erasing import Erasing
from limbeck.data.keyed import draw, reseed, restored
from limbeck.data.views import TensorViews, to_unit
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED, Batch

__all__ = ["ItemSamples", "Items", "Samples", "TensorSamples", "View"]

View: TypeAlias = int | NDArray[np.int64] | None
"""The number of a view: one for all samples, or one for each, [B]; None: without augmentation."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Samples(ABC):
    """One split.

    Attributes:
        targets: class indices, int64 [N]; `UNLABELLED` where a sample carries no label.
        classes: names of the classes, in the order of their indices.
        identifiers: other names of the classes (wnids) where there are any, else equal to `classes`.
        channels: channels of an image.
        size: height and width of an image, as `take` gives it.
    """

    targets: Tensor
    classes: tuple[str, ...]
    identifiers: tuple[str, ...] = ()
    channels: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not self.identifiers:
            object.__setattr__(self, "identifiers", self.classes)
        targets = self.targets.to(torch.int64)
        object.__setattr__(self, "targets", targets)
        if targets.dim() != 1:
            raise InputError(f"data: labels must be one class index a sample, got {list(targets.shape)}")
        wrong = (targets < UNLABELLED) | (targets >= len(self.classes))
        if bool(wrong.any()):
            number = int(wrong.nonzero()[0])
            raise InputError(
                f"data: sample {number} has the label {int(targets[number])}; labels must be from 0 to "
                f"{len(self.classes) - 1} ({len(self.classes)} classes), or none"
            )

    def __len__(self) -> int:
        return int(self.targets.shape[0])

    def __repr__(self) -> str:
        shape = f"{self.channels}x{self.size[0]}x{self.size[1]}"
        return f"{type(self).__name__}({len(self)} of {shape}, {len(self.classes)} classes)"

    @abstractmethod
    def take(self, index: NDArray[np.int64], view: View, seed: int) -> Batch:
        """The samples with these numbers, as a batch.

        Args:
            index: sample numbers, [B].
            view: which view of the samples: one for all (the number of the pass, where nothing is repeated),
                or one for each, [B]; None for evaluation, without augmentation (`Batch.view` is None then).
            seed: together with sample number and pass, it decides the view.
        """

    @abstractmethod
    def subset(self, index: ArrayLike) -> Self:
        """The split that holds these samples only, in this order, numbered from 0."""

    @abstractmethod
    def hash(self) -> str:
        """A fingerprint of samples, labels and class names; views do not count."""

    def relabelled(self, targets: Tensor) -> Self:
        """The same samples with other targets."""
        return replace(self, targets=targets)

    def _batch(self, images: Tensor, index: NDArray[np.int64], view: View) -> Batch:
        numbers = torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64))
        passes = None if view is None else torch.from_numpy(_each(view, index).copy())
        return Batch(input=images, target=self.targets[numbers], index=numbers, view=passes)

    def _digest(self, *content: Any) -> str:
        digest = hashlib.blake2b(digest_size=16)
        digest.update(repr((type(self).__name__, self.classes, self.identifiers)).encode())
        digest.update(self.targets.numpy().tobytes())
        for part in content:
            digest.update(part)
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TensorSamples(Samples):
    """Small images, all in memory.

    Attributes:
        images: bytes, or floats in [0, 1]; [N, C, H, W].
        views: what augmentation does; None for nothing.
    """

    images: Tensor
    views: TensorViews | None = None
    channels: int = 0
    size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or len(self.images) != len(self.targets):
            raise InputError(
                f"data: images must be [samples, channels, height, width], one for each of "
                f"{len(self.targets)} labels; got {list(self.images.shape)}"
            )
        object.__setattr__(self, "channels", int(self.images.shape[1]))
        object.__setattr__(self, "size", (int(self.images.shape[2]), int(self.images.shape[3])))
        if self.views is not None and self.views.crop > min(self.size):
            raise InputError(f"data.views.crop: must be at most the image's side, {min(self.size)}")
        super().__post_init__()

    def take(self, index: NDArray[np.int64], view: View, seed: int) -> Batch:
        """See `Samples.take`."""
        # Which copies whole images; brackets go pixel by pixel, in four times the time.
        images = self.images.index_select(0, torch.from_numpy(np.ascontiguousarray(index, dtype=np.int64)))
        if view is None or self.views is None:
            images = to_unit(images)
        else:
            images = self.views(images, index, view, seed)
        return self._batch(images, index, view)

    def subset(self, index: ArrayLike) -> Self:
        """See `Samples.subset`."""
        chosen = torch.from_numpy(np.asarray(index, dtype=np.int64))
        return replace(self, images=self.images[chosen], targets=self.targets[chosen])

    def hash(self) -> str:
        """See `Samples.hash`."""
        return self._digest(self.images.contiguous().view(torch.uint8).numpy().data)


def _each(view: int | NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """The view of each sample, [B]."""
    return np.broadcast_to(np.asarray(view, dtype=np.int64), index.shape)


class Items(Protocol):
    """What `ItemSamples` reads from: anything with a length and items by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ItemSamples(Samples):
    """Samples that are read one by one: photographs on disk, or anybody's data set.

    The generators are seeded for each item before it is read and augmented, so its view depends on (seed,
    sample, view) only, in whatever worker process it is made.

    Attributes:
        items: item by number, as `train` and `test` take it.
        train: item to an image tensor [C, H, W], bytes or floats in [0, 1]; for training.
        test: the same for evaluation.
        numbers: which of the items belong to this split, [N].
        views: what augmentation does to a batch of finished images, on top of `train`; None for nothing.
        fingerprint: tells the items apart from others, for `hash`.
    """

    items: Items
    train: Callable[[Any], Tensor]
    test: Callable[[Any], Tensor]
    numbers: NDArray[np.int64]
    views: TensorViews | Erasing | None = None
    fingerprint: Sequence[str] = ()

    def take(self, index: NDArray[np.int64], view: View, seed: int) -> Batch:
        """See `Samples.take`."""
        images = torch.stack(self._read(index, view, seed))
        if view is None or self.views is None:
            return self._batch(to_unit(images), index, view)
        if isinstance(self.views, Erasing):
            images = to_unit(images)
        return self._batch(self.views(images, index, view, seed), index, view)

    def _read(self, index: NDArray[np.int64], view: View, seed: int) -> list[Tensor]:
        """The images, each drawn from generators of its own seed."""
        # Evaluation is keyed too: a user's item that draws random numbers stays the same every time.
        words = draw(0, index, -1) if view is None else draw(seed, index, view)
        change = self.test if view is None else self.train
        found = []
        with restored():
            for number, word in zip(index.tolist(), words.tolist(), strict=True):
                reseed(word)
                found.append(self._checked(number, change(self.items[int(self.numbers[number])])))
        return found

    def _checked(self, number: int, image: Tensor) -> Tensor:
        if tuple(image.shape) != (self.channels, *self.size):
            raise InputError(
                f"data: sample {number} has the shape {list(image.shape)}, others have "
                f"{[self.channels, *self.size]} (channels, height, width)"
            )
        return image

    def subset(self, index: ArrayLike) -> Self:
        """See `Samples.subset`."""
        chosen = np.asarray(index, dtype=np.int64)
        targets = self.targets[torch.from_numpy(chosen)]
        return replace(self, numbers=self.numbers[chosen], targets=targets)

    def hash(self) -> str:
        """See `Samples.hash`; file names and sizes stand for the content of files."""
        return self._digest("\n".join(self.fingerprint).encode(), self.numbers.tobytes())
