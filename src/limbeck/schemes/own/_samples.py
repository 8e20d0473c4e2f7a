"""Which samples a batch holds, for kinds that look at other samples or other views of them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._alone import Own
from limbeck.taps import Tapped

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Numbers", "Taking"]

Numbers = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Number and view of each sample, both [B]."""


class Taking(Own):
    """A student whose teacher looks at samples that the batch does not hold.

    They are read in the training's own process, when a batch is taught.
    """

    hard_targets = True

    def __init__(self, student: Tapped, objective: Objective, setting: Setting) -> None:
        super().__init__(student, objective, setting)
        assert setting.samples is not None
        self._samples = setting.samples
        self._seed = setting.seed
        self._put: Callable[[Batch], Batch] = lambda batch: batch

    @classmethod
    def looks_up(cls, options: Mapping[str, Any]) -> bool:
        """Always."""
        return True

    def numbers(self, batch: Batch) -> Numbers:
        """Which views of which samples a batch holds.

        Raises:
            ValueError: it does not say, or its samples are mixed.
        """
        name = type(self).__module__.rpartition(".")[2]
        if batch.target is not None and batch.target.ndim != 1:
            raise ValueError(
                f"{name}: samples of this batch are mixed, and so are neither of one class nor to be had as "
                "another view; leave data.mix out."
            )
        if batch.keys is not None:  # on the CPU wherever the batch is
            return batch.keys[:, 0].numpy(), batch.keys[:, 1].numpy()
        if batch.index is None or batch.view is None:
            raise ValueError(
                f"{name}: needs batch.index and batch.view, which samples a batch holds and which views of "
                "them; the batch does not say."
            )
        return batch.index.cpu().numpy(), batch.view.cpu().numpy()

    def taken(self, index: NDArray[np.int64], view: NDArray[np.int64], seed: int) -> Batch:
        """These views of these samples, where the training runs."""
        return self._put(self._samples.take(index, view, seed))

    def place(self, runtime: "Runtime") -> None:
        super().place(runtime)
        self._put = runtime.put
