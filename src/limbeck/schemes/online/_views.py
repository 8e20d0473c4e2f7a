"""Each peer sees a view of its own of the same samples: `OwnViews`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from limbeck.data.keyed import seed_for
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.online._peers import Peers
from limbeck.taps import Tapped

if TYPE_CHECKING:
    from limbeck.data.samples import Samples
    from limbeck.training.runtime import Runtime

__all__ = ["OwnViews", "Viewing"]


class OwnViews:
    """The inputs of all peers: the first one's is the batch's own, as its control sees it.

    A peer's view is a function of (seed, peer, sample, pass), so that a resumed training and several
    processes see the same. Views are made in the training process, whatever the workers of the loader: small
    images in memory cost next to nothing, files are read once more for each peer.

    Args:
        samples: what is learnt from.
        seed: of the training.
        names: the peers after the first.
    """

    def __init__(self, samples: "Samples", seed: int, names: Sequence[str]) -> None:
        self._samples = samples
        self._seeds = [seed_for(seed, f"{name}, views") for name in names]

    def __call__(self, batch: Batch, runtime: "Runtime") -> list[Tensor | dict[str, Tensor]]:
        """What each peer is asked, the first one first.

        Raises:
            InputError: the samples of the batch are mixed with each other, or it does not say which they are.
        """
        if batch.target is not None and batch.target.ndim == 2:
            raise InputError(
                "scheme.views: the samples of a batch are mixed with each other (data.mix), so there is no "
                "other view of them; leave one of the two out, `views: false` or the mix."
            )
        if batch.index is None or batch.view is None:
            raise InputError(
                "scheme.views: the batch does not say which samples it holds; `views: false` shows all "
                "peers the same."
            )
        keys = batch.keys  # lies on the CPU already
        index = np.asarray(batch.index.cpu() if keys is None else keys[:, 0], dtype=np.int64)
        view = np.asarray(batch.view.cpu() if keys is None else keys[:, 1], dtype=np.int64)
        others = [runtime.put(self._samples.take(index, view, seed)).input for seed in self._seeds]
        return [batch.input, *others]


class Viewing(Peers):
    """Peers that may see a view of their own each.

    Args:
        student, objective, setting: as of `Peers`.
        views: whether they do.
    """

    def __init__(self, student: Tapped, objective: Objective, setting: Setting, views: bool) -> None:
        super().__init__(student, objective, setting)
        own = setting.samples if views else None
        self._views = None if own is None else OwnViews(own, setting.seed, self.names[1:])
        self._runtime: Runtime | None = None

    @classmethod
    def looks_up(cls, options: Mapping[str, Any]) -> bool:
        """Where each peer has views of its own."""
        return bool(options.get("views", True))

    def place(self, runtime: "Runtime") -> None:
        super().place(runtime)
        self._runtime = runtime

    def seen(self, batch: Batch) -> Sequence[Any]:
        """What each peer is asked."""
        if self._views is None:
            return [batch.input] * len(self.names)
        assert self._runtime is not None
        return self._views(batch, self._runtime)
