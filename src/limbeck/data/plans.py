"""Which samples each step sees: a pure function of seed, pass, number of samples and batch size.

Nothing here depends on what was drawn before, so a run can resume at any step, several processes agree
without talking, and a teacher's answers can be stored by (sample, pass) and replayed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError

__all__ = ["Plan"]

_MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Plan:
    """The order and the batches of every pass.

    Attributes:
        seed: together with the number of the pass, it decides the order.
        samples: number of samples, at least 1.
        batch: samples of one optimiser step, over all processes and accumulated parts, at least 1. Where
            there are fewer samples than this, a step takes all of them.
        shuffle: False keeps the samples in their own order.
    """

    seed: int
    samples: int
    batch: int
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError("data: there is no training sample")
        if self.batch < 1:
            raise InputError(f"data.batch_size: must be at least 1, got {self.batch}")

    def __len__(self) -> int:
        """Optimiser steps a pass. The incomplete tail is left out (another one in each pass)."""
        return max(1, self.samples // self.batch)

    def order(self, view: int) -> NDArray[np.int64]:
        """The order of all samples in pass `view`, a permutation of 0..samples-1.

        Sorting the raw stream of a keyed Philox generator gives a uniform permutation, and NumPy promises
        this stream, unlike that of `Generator.permutation`, to stay the same in later versions.
        """
        if not self.shuffle:
            return np.arange(self.samples, dtype=np.int64)
        key = np.array([self.seed & _MASK, view & _MASK], dtype=np.uint64)
        drawn = np.random.Philox(key=key).random_raw(self.samples)
        return np.argsort(drawn, kind="stable").astype(np.int64, copy=False)

    def batches(
        self, view: int, *, rank: int = 0, world: int = 1, parts: int = 1, start: int = 0
    ) -> Iterator[list[NDArray[np.int64]]]:
        """The sample numbers of each step of a pass, from step `start` on, for one process.

        Each item is a list of `parts` arrays, the micro-batches of one optimiser step. With several
        processes or parts, position p of the whole batch and its mirror batch-1-p always go to the same
        array, at mirrored positions, so that a sample's partner in a mix is always local.

        Raises:
            InputError: the batch cannot be shared out in mirrored pairs.
        """
        size = min(self.batch, self.samples)
        half = self._half(size, world * parts)
        return self._batches(view, size, half, range(rank * parts, (rank + 1) * parts), start)

    def _half(self, size: int, shares: int) -> int:
        """How many mirrored pairs each of the shares gets; 0 where there is one share: the whole batch."""
        if shares == 1:
            return 0
        if size % (2 * shares):
            why = "" if size == self.batch else f" (there are only {size} training samples)"
            fits = size // (2 * shares) * 2 * shares
            hint = f"; {fits} would do" if fits else ""
            raise InputError(
                f"data.batch_size: must be divisible by {2 * shares}, twice the number of processes times "
                f"train.accumulate, so that it can be shared out evenly; got {size}{why}{hint}"
            )
        return size // (2 * shares)

    def _batches(
        self, view: int, size: int, half: int, shares: range, start: int
    ) -> Iterator[list[NDArray[np.int64]]]:
        order = self.order(view)
        for step in range(start, len(self)):
            whole = order[step * size : (step + 1) * size]
            yield [_share(whole, share, half) for share in shares]


def _share(whole: NDArray[np.int64], share: int, half: int) -> NDArray[np.int64]:
    if half == 0:
        return whole
    first, last = share * half, (share + 1) * half
    return np.concatenate([whole[first:last], whole[len(whole) - last : len(whole) - first]])
