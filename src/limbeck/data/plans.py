"""Which samples each step sees: a pure function of seed, pass, number of samples and batch size.

Nothing here depends on what was drawn before, so a run can resume at any step, several processes agree
without talking, and a teacher's answers can be stored by (sample, pass) and replayed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import InputError

__all__ = ["Plan", "Share"]

_MASK = (1 << 64) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What one process computes at once: a whole batch, or a mirrored part of one.

    Attributes:
        index: sample numbers, [B].
        view: number of each sample's view, [B].
        position: place of each in the whole batch, [B]; those at i and B-1-i are mirrored there too.
        whole: samples in the whole batch.
        step: number of the batch in its pass.
        turn: number of the pass, by which mixes are drawn.
    """

    index: NDArray[np.int64]
    view: NDArray[np.int64]
    position: NDArray[np.int64]
    whole: int
    step: int
    turn: int

    @property
    def place(self) -> NDArray[np.int64]:
        """Where each sample stands in the order of its pass, [B]."""
        return self.step * self.whole + self.position


@dataclass(frozen=True)
class Plan:
    """The order and the batches of every pass.

    Attributes:
        seed: together with the number of the pass, it decides the order.
        samples: number of samples, at least 1.
        batch: samples of one optimiser step, over all processes and accumulated parts, at least 1. Where
            there are fewer samples than this, a step takes all of them.
        shuffle: False keeps the samples in their own order.
        repeats: repeated augmentation: each sample comes this many times in a row, each time as another view,
            so that a batch holds several views of a sample; a pass is as long as ever, and so sees that much
            fewer samples (Hoffer et al. 2019, https://arxiv.org/abs/1901.09335; Berman et al. 2019,
            https://arxiv.org/abs/1902.05509).
        period: passes after which the views come again, as where a teacher's answers to so many views are
            replayed; None: never.
        fixed: with the views the order and the mixes come again, too, which an answer to a mix depends on.
    """

    seed: int
    samples: int
    batch: int
    shuffle: bool = True
    repeats: int = 1
    period: int | None = None
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise InputError("data: there is no training sample")
        if self.batch < 1:
            raise InputError(f"data.batch_size: must be at least 1, got {self.batch}")
        if self.repeats < 1:
            raise InputError(f"data.repeats: must be at least 1, got {self.repeats}")
        if self.period is not None and self.period < 1:
            raise InputError(f"teacher.cache.views: must be at least 1, got {self.period}")

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
        shares = self.shares(view, rank=rank, world=world, parts=parts, start=start)
        return ([share.index for share in step] for step in shares)

    def shares(
        self, view: int, *, rank: int = 0, world: int = 1, parts: int = 1, start: int = 0
    ) -> Iterator[list[Share]]:
        """As `batches`, with the view and the place of each sample.

        Raises:
            InputError: the batch cannot be shared out in mirrored pairs.
        """
        size = min(self.batch, self.samples)
        half = self._half(size, world * parts)
        return self._shares(view, size, half, range(rank * parts, (rank + 1) * parts), start)

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

    def _shares(self, turn: int, size: int, half: int, shares: range, start: int) -> Iterator[list[Share]]:
        again = turn if self.period is None else turn % self.period
        turn = again if self.fixed else turn
        order = np.repeat(self.order(turn), self.repeats)[: self.samples]
        views = again * self.repeats + np.arange(self.samples, dtype=np.int64) % self.repeats
        places = [_places(size, share, half) for share in shares]
        for step in range(start, len(self)):
            first = step * size
            yield [
                Share(order[first + place], views[first + place], place, size, step, turn) for place in places
            ]


def _places(size: int, share: int, half: int) -> NDArray[np.int64]:
    """The places in the whole batch that one of the shares takes."""
    whole = np.arange(size, dtype=np.int64)
    if half == 0:
        return whole
    first, last = share * half, (share + 1) * half
    return np.concatenate([whole[first:last], whole[size - last : size - first]])
