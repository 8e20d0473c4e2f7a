"""Images in folders, one folder for each class.

`PATH/train/<class>/*` with `PATH/val` or `PATH/test` beside it. Without these two, or with `PATH/<class>/*`
alone, a fifth of each class is held out for testing, always the same images. Where both `val` and `test`
stand there, `val` is the validation split. Images under `PATH/unlabelled` carry no label and join the
training samples.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from limbeck.data.base import Data, Request
from limbeck.data.photographs import ImageViews
from limbeck.data.places import local, resolve
from limbeck.data.samples import ItemSamples, Samples
from limbeck.data.splits import HELD_OUT, others, proportional
from limbeck.errors import InputError, nearest, unknown
from limbeck.knowledge import UNLABELLED

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageFiles", "load_folder"]

_ENDINGS = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_UNLABELLED = "unlabelled"
_PARTS = ("val", "test")


@dataclass(frozen=True)
class ImageFiles:
    """RGB images by number, read when asked for."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> "Image":
        """The image.

        Raises:
            InputError: the file cannot be read as an image; names it.
        """
        from PIL import Image

        path = self.paths[number]
        try:
            with warnings.catch_warnings():
                # Palettes, unusual EXIF: the image is read all the same, and a user can do nothing about it.
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(path) as image:
                    return image.convert("RGB")
        # Pillow's decoders raise many kinds of errors on damaged files, SyntaxError among them.
        except (Exception, Image.DecompressionBombWarning) as error:
            raise InputError(f"data: the image {path} cannot be read: {error}") from error


def load_folder(request: Request) -> Data:
    """The image folder that `request.name` names.

    Raises:
        InputError: no such folder, no images, or classes that do not fit.
    """
    path = _find(request)
    views = ImageViews.make(request.views, {} if request.size is None else {"size": request.size})
    inner = path / "train"
    if inner.is_dir() and any((path / part).is_dir() for part in _PARTS):
        data = _with_parts(path, views)
    else:
        whole = inner if inner.is_dir() else path
        everything = _labelled(whole, _class_folders(whole), views)
        held_out = proportional(everything.targets, round(HELD_OUT * len(everything)), seed=0, stream=0)
        if not 0 < len(held_out) < len(everything):
            raise InputError(
                f"data.source: {whole} has too few images ({len(everything)}) to hold a fifth out"
            )
        train = everything.subset(others(len(everything), held_out))
        test = everything.subset(held_out)
        data = Data(train, test, None, train.classes, train.identifiers)
    return replace(data, train=_joined(data.train, path / _UNLABELLED))


def _find(request: Request) -> Path:
    if not request.name:
        raise InputError("data.source: folder: needs a path, as in folder:images")
    starts = [request.root] if request.root is not None else []
    places = [start / request.name for start in starts] + resolve(request.name, request.beside)
    here = local()
    places += [] if here is None else [here / request.name]
    for place in dict.fromkeys(places):
        if place.is_dir():
            return place
    first = places[0]
    siblings = [p.name for p in first.parent.iterdir() if p.is_dir()] if first.parent.is_dir() else []
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    raise InputError(f"data.source: there is no folder {looked}.{nearest(first.name, siblings)}")


def _with_parts(path: Path, views: ImageViews) -> Data:
    present = [name for name in _PARTS if (path / name).is_dir()]
    train = _labelled(path / "train", _class_folders(path / "train"), views)
    parts = {name: _labelled(path / name, train.identifiers, views, train.classes) for name in present}
    test = parts["test"] if "test" in parts else parts["val"]
    validation = parts["val"] if len(parts) == 2 else None
    return Data(train, test, validation, train.classes, train.identifiers)


def _class_folders(path: Path) -> tuple[str, ...]:
    found = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if set(_PARTS) & set(found):
        raise InputError(f"data.source: {path} has {', '.join(found)}, but no folder train")
    classes = tuple(name for name in found if name != _UNLABELLED)
    if not classes:
        raise InputError(f"data.source: {path} has no class folders; images belong in {path}/<class>/")
    return classes


def _images(path: Path) -> list[Path]:
    return sorted(
        p
        for p in path.rglob("*")
        if p.suffix.lower() in _ENDINGS and not p.name.startswith(".") and p.is_file()
    )


def _labelled(
    path: Path, folders: Sequence[str], views: ImageViews, classes: tuple[str, ...] | None = None
) -> ItemSamples:
    """The samples of one split; with `classes` given, the split may lack some of them but have no others."""
    present = _class_folders(path)
    for name in present:
        if name not in folders:
            raise unknown("class folder", name, folders, where=f"data.source: {path}")
    paths: list[Path] = []
    targets: list[int] = []
    for name in present:
        images = _images(path / name)
        if not images:
            raise InputError(
                f"data.source: the class folder {path / name} has no images ({', '.join(sorted(_ENDINGS))})"
            )
        paths += images
        targets += [folders.index(name)] * len(images)
    return _samples(paths, targets, classes or _names(folders), tuple(folders), views)


def _samples(
    paths: list[Path],
    targets: list[int],
    classes: tuple[str, ...],
    folders: tuple[str, ...],
    views: ImageViews,
) -> ItemSamples:
    return ItemSamples(
        items=ImageFiles(tuple(paths)),
        train=views.train,
        test=views.test,
        views=views.erasing,
        numbers=np.arange(len(paths), dtype=np.int64),
        fingerprint=[f"{p.parent.name}/{p.name} {p.stat().st_size} {views.size}" for p in paths],
        targets=torch.tensor(targets, dtype=torch.int64),
        classes=classes,
        identifiers=folders,
        channels=3,
        size=(views.size, views.size),
    )


def _names(folders: Sequence[str]) -> tuple[str, ...]:
    """Names for people: WordNet numbers, as ImageNet's folders are called, become their first word."""
    if not all(re.fullmatch(r"n\d{8}", name) for name in folders):
        return tuple(folders)
    from timm.data import ImageNetInfo

    words = ImageNetInfo("imagenet-22k")
    known = set(words.label_names())
    if not known.issuperset(folders):
        return tuple(folders)
    return tuple(words.label_name_to_description(name, detailed=False).partition(",")[0] for name in folders)


def _joined(train: Samples, path: Path) -> Samples:
    """The training samples with the images under `path` behind them, which carry no label."""
    if not path.is_dir():
        return train
    images = _images(path)
    if not images:
        raise InputError(f"data.source: {path} has no images ({', '.join(sorted(_ENDINGS))})")
    assert isinstance(train, ItemSamples)
    assert isinstance(train.items, ImageFiles)
    first, files = len(train.items), train.items
    return replace(
        train,
        items=ImageFiles((*files.paths, *images)),
        numbers=np.concatenate([train.numbers, np.arange(first, first + len(images), dtype=np.int64)]),
        fingerprint=[*train.fingerprint, *(f"{p.name} {p.stat().st_size}" for p in images)],
        targets=torch.cat([train.targets, torch.full((len(images),), UNLABELLED)]),
    )
