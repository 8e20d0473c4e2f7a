"""Reading stored answers by what a batch says of its samples: `Replay`."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from limbeck.cache.store import Store
from limbeck.data.plans import Plan
from limbeck.errors import InputError
from limbeck.knowledge import Knowledge

__all__ = ["Replay"]

KEPT = 4
"""Orders of passes that are kept at a time: a batch is of one pass."""


class Replay:
    """Answers of a cache to the batches of a plan.

    Args:
        store: the answers, in the order of the passes that they were made in.
        plan: of the cache: seed, samples, repeats.
        bound: an answer belongs to a place in a batch, as mixes and repeats make it, not to a sample.
    """

    def __init__(self, store: Store, plan: Plan, bound: bool) -> None:
        self.store = store
        self._plan = plan
        self._bound = bound
        self._places: dict[int, NDArray[np.int64]] = {}

    def take(self, keys: Tensor) -> Knowledge:
        """The answers to samples, [B, 3]: sample, view, and place in the order of its pass.

        Raises:
            InputError: the cache holds no such view.
        """
        index, view, place = keys.numpy().T
        turn = view // self._plan.repeats
        if int(turn.max()) >= self.store.passes:
            raise InputError(
                f"teacher.cache: {self.store.folder} holds {self.store.passes} views of each sample, and "
                f"this is view {int(turn.max())}; limbeck cache adds more."
            )
        if not self._bound:
            place = self._placed(turn, index)
        return self.store.layout.decode(self.store.read(turn, place))

    def _placed(self, turn: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where samples stood in the order of the passes that answered them."""
        first = int(turn[0])
        if (turn == first).all():
            return self._inverse(first)[index]
        return np.array([self._inverse(int(t))[i] for t, i in zip(turn, index, strict=True)])

    def _inverse(self, turn: int) -> NDArray[np.int64]:
        if turn not in self._places:
            if len(self._places) >= KEPT:
                self._places.pop(next(iter(self._places)))
            order = self._plan.order(turn)
            places = np.empty_like(order)
            places[order] = np.arange(len(order), dtype=np.int64)
            self._places[turn] = places
        return self._places[turn]
