"""A user's own loader as the trainer reads it: `Feeding`."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np
import torch

from limbeck.errors import InputError
from limbeck.knowledge import Batch, as_batch

__all__ = ["Feeding", "cut"]


class Feeding:
    """A plain loader, of `(input, target)` pairs or of `Batch`, as the trainer reads it.

    Args:
        loader: anything that can be gone through again and again and has a length.
        parts: into how many equal parts each batch is split (accumulation). Of a smaller last batch, the few
            samples that do not fill equal parts are left out.
        seed: of the order in which a loader shuffles by torch's own generator. Every training that starts at
            the first pass sees the same order, so that a control and its student do.

    Attributes:
        complete: whether every sample is known to carry a label; not known of a plain loader.

    Raises:
        InputError: the loader has no length.
    """

    def __init__(self, loader: Iterable[Any], parts: int = 1, seed: int = 0) -> None:
        self.loader = loader
        self.parts = parts
        self.seed = seed
        self.complete = False
        self._length = _length(loader)
        self._own = _generators(loader)
        self._before = [g.get_state() for g in self._own], random.getstate(), np.random.get_state()

    def __len__(self) -> int:
        return self._length

    def first(self) -> Batch:
        """The first batch, whole."""
        self._seed(0)
        return as_batch(next(iter(self.loader)))

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        """The batches of one pass. A plain loader cannot skip, so `start` reads and drops.

        Raises:
            InputError: a batch cannot be split, or there are other numbers of batches than the loader's
                length says.
        """
        self._seed(view)
        number = -1
        for number, item in enumerate(self.loader):
            if start <= number < self._length:
                yield _split(as_batch(item), self.parts, tail=number == self._length - 1)
        if number + 1 != self._length:
            raise InputError(
                f"train_loader: pass {view + 1} gave {number + 1} batches, and its length is {self._length}. "
                "It must give as many at each pass."
            )

    def _seed(self, view: int) -> None:
        torch.default_generator.manual_seed(self.seed * 1_000_003 + view)
        if view == 0:
            states, own, numpy = self._before
            for generator, state in zip(self._own, states, strict=True):
                generator.set_state(state)
            random.setstate(own)
            np.random.set_state(numpy)


def _length(loader: Iterable[Any]) -> int:
    try:
        length = len(loader) if isinstance(loader, Sized) else 0
    except TypeError:  # a DataLoader of a stream has the method, and no length
        length = 0
    if length == 0:
        raise InputError(
            "train_loader: must have a length of at least 1 (a DataLoader, or a list of batches)."
        )
    return length


def _generators(loader: Iterable[Any]) -> list[torch.Generator]:
    """The generators that a DataLoader was given for its shuffling."""
    sampler = getattr(loader, "sampler", None)
    found = [getattr(place, "generator", None) for place in (loader, sampler)]
    return [g for g in found if isinstance(g, torch.Generator)]


def _split(batch: Batch, parts: int, tail: bool) -> list[Batch]:
    if len(batch) % parts and not tail:
        raise InputError(f"accumulate: a batch of {len(batch)} cannot be split into {parts} equal parts.")
    parts = min(parts, len(batch))
    size = len(batch) // parts
    return [batch] if parts == 1 else [cut(batch, i * size, (i + 1) * size) for i in range(parts)]


def cut(batch: Batch, start: int, end: int) -> Batch:
    """Some samples of a batch."""

    def part(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: v[start:end] for k, v in value.items()}
        return None if value is None else value[start:end]

    return Batch(part(batch.input), part(batch.target), part(batch.index), part(batch.view))
