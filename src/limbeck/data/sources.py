"""From the name of a source to its splits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from limbeck.data.base import Data, Request
from limbeck.data.cifar import load_cifar
from limbeck.data.custom import load_custom
from limbeck.data.digits import load_digits
from limbeck.data.fashion_mnist import load_fashion_mnist
from limbeck.data.folder import load_folder
from limbeck.data.places import resolve
from limbeck.data.samples import Samples
from limbeck.data.splits import balanced, others, proportional
from limbeck.data.tasks import split
from limbeck.errors import InputError, unknown
from limbeck.knowledge import UNLABELLED

__all__ = ["Data", "load", "names"]

_NAMED: dict[str, Callable[[Request], Data]] = {
    "cifar10": load_cifar,
    "cifar100": load_cifar,
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
}
_PREFIXED: dict[str, Callable[[Request], Data]] = {"folder": load_folder, "py": load_custom}
_LATER = ("hf",)

# Streams of the keyed generator: what is chosen for one purpose says nothing about the others.
_VALIDATION, _LABELS, _SAMPLES = 1, 2, 3


def names() -> list[str]:
    """Every source as a recipe writes it."""
    return [*_NAMED, "folder:PATH", "py:package.module:factory"]


def load(
    source: str,
    *,
    root: Path | None = None,
    validation: float = 0.0,
    views: Mapping[str, Any] | None = None,
    seed: int = 0,
    labels: int | None = None,
    samples: int | None = None,
    options: Mapping[str, Any] | None = None,
    size: int | None = None,
    beside: Path | None = None,
    old: Sequence[str | int] | None = None,
) -> Data:
    """The splits of a data set.

    Args:
        source: `cifar10`, `cifar100`, `fashion_mnist`, `digits`, `folder:PATH` or
            `py:package.module:factory`.
        root: folder to look in; None: where LIMBECK_DATA points, then the cache folder (downloaded).
        validation: share of the labelled training samples to split off, in [0, 1).
        views: options of the training views, over the source's usual ones.
        seed: decides the validation split and which samples and labels are kept.
        labels: keep the labels of this many training samples, in equal numbers of the classes, and forget
            the others; None keeps all.
        samples: keep this many training samples likewise; None keeps all.
        options: keyword arguments of the factory of a `py:` source.
        size: side of the images, in pixels; None for the source's own.
        beside: folder of the recipe; relative paths and modules are looked for there first.
        old: classes of an old task, whose samples lie apart then; labels are those of the new one. See
            `limbeck.data.tasks.split`.

    Raises:
        InputError: the source is not known, or the data are missing, damaged or do not fit.
    """
    if size is not None and size < 1:
        raise InputError(f"data.size: must be at least 1, got {size}")
    reader, name = _reader(source)
    if options and reader is not load_custom:
        raise InputError(f"data.options: only py: sources take options, {source} does not")
    request = Request(name, _root(root, beside), views, dict(options or {}), size, beside)
    try:
        read = reader(request)
    except OSError as error:
        raise InputError(f"data.source: {source[:200]} cannot be read: {error.strerror or error}") from error
    data = _validated(read, validation, seed)
    data = replace(data, train=_fewer_samples(data.train, samples, seed))
    # Labels are forgotten when it is known of which task a sample is.
    data = data if old is None else split(data, old)
    return replace(data, train=_fewer_labels(data.train, labels, seed))


def _reader(source: str) -> tuple[Callable[[Request], Data], str]:
    prefix, colon, rest = source.partition(":")
    if colon and prefix in _PREFIXED:
        return _PREFIXED[prefix], rest
    if colon and prefix in _LATER:
        raise InputError(f"data.source: {prefix}: sources are not yet supported, got {source}")
    if source in _NAMED:
        return _NAMED[source], source
    raise unknown("source", source, names(), where="data.source")


def _root(root: Path | None, beside: Path | None) -> Path | None:
    if root is None:
        return None
    places = resolve(root, beside)
    return next((place for place in places if place.is_dir()), places[0])


def _labelled(samples: Samples) -> torch.Tensor:
    return (samples.targets != UNLABELLED).nonzero().flatten()


def _validated(data: Data, share: float, seed: int) -> Data:
    if not 0 <= share < 1:
        raise InputError(f"data.validation: must be a share from 0 to below 1, got {share}")
    if share == 0:
        return data
    if data.validation is not None:
        raise InputError("data.validation: these data have a validation split of their own; leave it out")
    labelled = _labelled(data.train)
    count = round(share * len(labelled))
    if not 0 < count < len(labelled):
        raise InputError(
            f"data.validation: {share} of {len(labelled)} labelled training samples is {count}; "
            "both parts need at least one sample"
        )
    within = proportional(data.train.targets[labelled], count, seed, _VALIDATION)
    chosen = labelled.numpy()[within]
    train = data.train.subset(others(len(data.train), chosen))
    return replace(data, train=train, validation=data.train.subset(chosen))


def _fewer_samples(train: Samples, count: int | None, seed: int) -> Samples:
    if count is None:
        return train
    if not 1 <= count <= len(train):
        raise InputError(f"data.samples: must be from 1 to {len(train)}, the training samples; got {count}")
    return train.subset(balanced(train.targets, count, seed, _SAMPLES))


def _fewer_labels(train: Samples, count: int | None, seed: int) -> Samples:
    if count is None:
        return train
    labelled = _labelled(train)
    if not 0 <= count <= len(labelled):
        raise InputError(
            f"data.labels: must be from 0 to {len(labelled)}, the labelled training samples; got {count}"
        )
    kept = labelled[torch.from_numpy(balanced(train.targets[labelled], count, seed, _LABELS))]
    targets = torch.full_like(train.targets, UNLABELLED)
    targets[kept] = train.targets[kept]
    return train.relabelled(targets)
