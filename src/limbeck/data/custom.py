"""Anybody's data set: `py:package.module:factory`.

The factory, called with `data.options`, gives one data set (a fifth is held out for testing, always the
same samples), a tuple `(train, test)`, or a mapping with `train`, `test` and perhaps `validation`. A data
set has a length and items `(x, y)` by number: x an image as a tensor [C, H, W] or [H, W], a NumPy array
[H, W] or [H, W, C], or a Pillow image; y a class index, or None (or -1) where there is no label. Bytes are
divided by 255; floats are taken as they are and should be in [0, 1]. An attribute `classes` names the
classes; an attribute `targets` (torchvision's data sets have it) saves reading every item for its label.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from limbeck.data.base import Data, Request
from limbeck.data.keyed import keyed
from limbeck.data.samples import ItemSamples, Samples, TensorSamples
from limbeck.data.splits import HELD_OUT, others, proportional
from limbeck.data.views import TensorViews
from limbeck.errors import InputError, unknown
from limbeck.importing import find_callable, said
from limbeck.knowledge import UNLABELLED

__all__ = ["image_tensor", "load_custom"]

_PLACE = "data.source"
_PARTS = ("train", "test", "validation")
_PROBES = 16
_EVALUATION = -1


def load_custom(request: Request) -> Data:
    """The data set of a user's factory.

    Raises:
        InputError: the factory is not there or fails, or what it gives cannot be used.
    """
    views = TensorViews.make(request.views, {"crop": 0, "flip": False}) if request.views else None
    if request.size is not None:
        raise InputError("data.size: py: sources give images of their own size; resize them in the factory")
    parts = _parts(_call(find_callable(request.name, beside=request.beside, where=_PLACE), request))
    train = _samples(parts["train"], "train", _class_names(parts["train"]))
    splits = {
        name: _same_kind(_samples(part, name, _class_names(part) or train.classes), name, train)
        for name, part in parts.items()
        if name != "train"
    }
    test = splits.get("test")
    if test is None:
        held_out = proportional(train.targets, round(HELD_OUT * len(train)), seed=0, stream=0)
        if not 0 < len(held_out) < len(train):
            raise InputError(f"{_PLACE}: {len(train)} samples are too few to hold a fifth of them out")
        train, test = train.subset(others(len(train), held_out)), train.subset(held_out)
    return Data(replace(train, views=views), test, splits.get("validation"), train.classes, train.identifiers)


def _call(factory: Callable[..., Any], request: Request) -> Any:
    signature = inspect.signature(factory)
    parameters = signature.parameters.items()
    accepted = [n for n, p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    open_ended = any(p.kind == p.VAR_KEYWORD for _, p in parameters)
    for option in request.options:
        if option not in accepted and not open_ended:
            raise unknown("option", option, accepted, where="data.options")
    try:
        signature.bind(**request.options)
    except TypeError as error:
        raise InputError(f"data.options: py:{request.name}: {error}") from error
    try:
        return factory(**request.options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{_PLACE}: py:{request.name} failed: {said(error)}") from error


def _parts(given: Any) -> dict[str, Any]:
    """The splits by name; `test` may be missing."""
    if isinstance(given, Mapping):
        for key in given:
            if key not in _PARTS:
                raise unknown("split", str(key), _PARTS, where=_PLACE)
        if not {"train", "test"} <= set(given):
            raise InputError(f"{_PLACE}: the factory's mapping needs train and test, got {', '.join(given)}")
        return dict(given)
    if isinstance(given, tuple):
        if len(given) != 2:
            raise InputError(f"{_PLACE}: the factory's tuple must be (train, test), got {len(given)} items")
        return {"train": given[0], "test": given[1]}
    return {"train": given}


def _class_names(part: Any) -> tuple[str, ...] | None:
    given = getattr(part, "classes", None)
    return None if given is None else tuple(str(name) for name in given)


def _samples(part: Any, name: str, classes: tuple[str, ...] | None) -> TensorSamples | ItemSamples:
    where = f"{_PLACE}: the split {name}"
    if not (hasattr(part, "__len__") and hasattr(part, "__getitem__")):
        raise InputError(
            f"{where} must be a data set with a length and items by number, got {type(part).__name__}"
        )
    if len(part) == 0:
        raise InputError(f"{where} is empty")
    if _in_memory(part):
        images, targets = part.tensors
        return TensorSamples(images=images, targets=targets, classes=classes or _numbered(targets))
    targets, first, fingerprint = _surveyed(part, where)
    return ItemSamples(
        items=part,
        train=_image,
        test=_image,
        numbers=np.arange(len(part), dtype=np.int64),
        fingerprint=[fingerprint],
        targets=targets,
        classes=classes or _numbered(targets),
        channels=first.shape[0],
        size=(first.shape[1], first.shape[2]),
    )


def _in_memory(part: Any) -> bool:
    """True for tensors that can be used as they are, without reading item by item."""
    if not isinstance(part, TensorDataset) or len(part.tensors) != 2:
        return False
    images, targets = part.tensors
    pixels = images.dtype == torch.uint8 or images.is_floating_point()
    return images.dim() == 4 and pixels and targets.dim() == 1 and targets.dtype == torch.int64


def _numbered(targets: Tensor) -> tuple[str, ...]:
    return tuple(str(number) for number in range(int(targets.max()) + 1))


def _surveyed(part: Any, where: str) -> tuple[Tensor, Tensor, str]:
    """The labels, the first image, and a fingerprint made of some samples here and there."""
    probes = np.unique(np.linspace(0, len(part) - 1, _PROBES).astype(int)).tolist()
    images, labels = [], []
    for number in probes:
        with keyed(0, number, _EVALUATION):
            x, y = _pair(part, number, where)
            images.append(image_tensor(x))
            labels.append(_label(y, number, where))
    digest = hashlib.blake2b(repr((type(part).__qualname__, len(part))).encode(), digest_size=16)
    for image in images:
        digest.update(image.contiguous().numpy().tobytes())
    given = _given_targets(part, where)
    # A data set may change labels on their way out (torchvision's target_transform): then items count.
    if given is None or [int(given[number]) for number in probes] != labels:
        given = torch.tensor([_read_label(part, number, where) for number in range(len(part))])
    return given, images[0], digest.hexdigest()


def _given_targets(part: Any, where: str) -> Tensor | None:
    given = getattr(part, "targets", None)
    if given is None or len(given) != len(part):
        return None
    return torch.tensor([_label(value, number, where) for number, value in enumerate(given)])


def _read_label(part: Any, number: int, where: str) -> int:
    with keyed(0, number, _EVALUATION):
        return _label(_pair(part, number, where)[1], number, where)


def _pair(part: Any, number: int, where: str) -> tuple[Any, Any]:
    try:
        item = part[number]
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: reading sample {number} failed: {said(error)}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(f"{where}: sample {number} must be a pair (x, y), got {type(item).__name__}")
    return item[0], item[1]


def _label(value: Any, number: int, where: str) -> int:
    if value is None:
        return UNLABELLED
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(
            f"{where}: the label of sample {number} must be a class index or None, got {value!r}"
        )
    return value


def _image(item: tuple[Any, Any]) -> Tensor:
    return image_tensor(item[0])


def image_tensor(given: Any) -> Tensor:
    """Any of the accepted kinds of image as a tensor [C, H, W] of bytes or floats.

    Raises:
        InputError: another kind, or another shape.
    """
    if not isinstance(given, Tensor | np.ndarray):
        return _pillow(given)
    image = torch.from_numpy(np.ascontiguousarray(given)) if isinstance(given, np.ndarray) else given
    if image.dim() == 3 and isinstance(given, np.ndarray):
        image = image.permute(2, 0, 1)
    if image.dim() == 2:
        image = image[None]
    if image.dim() != 3 or image.shape[0] > 4 or 0 in image.shape:
        raise InputError(
            f"{_PLACE}: an image must be a tensor [C, H, W] or [H, W], or an array [H, W] or [H, W, C], "
            f"with at most 4 channels; got {list(given.shape)}"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise InputError(f"{_PLACE}: the pixels of an image must be bytes or floats, got {image.dtype}")
    return image


def _pillow(given: Any) -> Tensor:
    from PIL import Image

    if not isinstance(given, Image.Image):
        raise InputError(
            f"{_PLACE}: an image must be a tensor, a NumPy array or a Pillow image, "
            f"got {type(given).__name__}"
        )
    array = np.array(given if given.mode in ("L", "RGB") else given.convert("RGB"))
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _same_kind(split: Samples, name: str, train: Samples) -> Samples:
    if (split.channels, split.size) != (train.channels, train.size):
        raise InputError(
            f"{_PLACE}: images of the split {name} are {[split.channels, *split.size]}, those of train "
            f"{[train.channels, *train.size]} (channels, height, width)"
        )
    if split.classes != train.classes:
        raise InputError(
            f"{_PLACE}: the split {name} has the classes {', '.join(split.classes)}; train has "
            f"{', '.join(train.classes)}"
        )
    return split
