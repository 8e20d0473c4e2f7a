"""Each peer sees a view of its own of the same samples: `OwnViews`."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch

if TYPE_CHECKING:
    from limbeck.data.samples import Samples
    from limbeck.training.runtime import Runtime

__all__ = ["OwnViews", "seed_for"]


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


def seed_for(seed: int, name: str) -> int:
    """A seed for each name under each seed: seed + 1 would give it the numbers of another run."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=7).digest())
