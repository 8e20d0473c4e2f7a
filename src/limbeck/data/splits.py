"""Choosing some of the samples, by seed and fairly among the classes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import keyed_permutation

__all__ = ["HELD_OUT", "balanced", "others", "proportional"]

HELD_OUT = 0.2
"""Share of the samples that is kept for testing where a source comes without a test split."""


def _ranks(targets: NDArray[np.int64], seed: int, stream: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random order of the samples, and the place of each of them (in that order) within its class."""
    order = keyed_permutation(seed, len(targets), stream)
    shuffled = targets[order]
    grouped = np.argsort(shuffled, kind="stable")
    counts = np.unique(shuffled, return_counts=True)[1]
    places = np.concatenate([np.arange(count) for count in counts])
    ranks = np.empty(len(targets), dtype=np.int64)
    ranks[grouped] = places
    return order, ranks


def balanced(targets: Tensor, count: int, seed: int, stream: int) -> NDArray[np.int64]:
    """`count` samples, as many of each class as of the others where there are enough; sorted numbers.

    Samples without a label count as a class of their own.
    """
    order, ranks = _ranks(targets.numpy(), seed, stream)
    return np.sort(order[np.argsort(ranks, kind="stable")[:count]])


def proportional(targets: Tensor, count: int, seed: int, stream: int) -> NDArray[np.int64]:
    """`count` samples, each class with the share that it has in the whole; sorted numbers."""
    order, ranks = _ranks(targets.numpy(), seed, stream)
    classes, sizes = np.unique(targets.numpy(), return_counts=True)
    of_class = sizes[np.searchsorted(classes, targets.numpy()[order])]
    return np.sort(order[np.argsort((ranks + 0.5) / of_class, kind="stable")[:count]])


def others(samples: int, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The numbers from 0 to samples-1 that were not chosen."""
    left = torch.ones(samples, dtype=torch.bool)
    left[torch.from_numpy(chosen)] = False
    return left.nonzero().flatten().numpy()
