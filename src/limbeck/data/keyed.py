"""Random numbers that depend on a key only, never on what was drawn before.

Two ways: `draw` hashes (seed, sample, view, stream) for many samples at once, for views of small images;
`keyed` seeds the usual generators around code that is not ours (torchvision's transforms, a user's data
set) and puts them back afterwards.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["draw", "keyed", "keyed_permutation", "uniform"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def draw(
    seed: int, index: NDArray[np.int64], view: int | NDArray[np.int64], stream: int = 0
) -> NDArray[np.uint64]:
    """64 random bits for each sample, a function of (seed, index, view, stream) alone; [B].

    Args:
        seed: any whole number.
        index: sample numbers, [B].
        view: one for all, or one for each, [B].
        stream: keeps draws for one purpose apart from those for another.
    """
    state = np.zeros(1, dtype=np.uint64)
    for word in (seed, view, stream):
        if isinstance(word, np.ndarray):
            added = word.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(_GOLDEN)
        else:
            added = np.array([(word * _GOLDEN + _GOLDEN) & _MASK], dtype=np.uint64)
        state = _mix(state + added)
    return _mix(_mix(state + index.astype(np.uint64) * np.uint64(_GOLDEN)) ^ state)


def keyed_permutation(seed: int, count: int, stream: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1 for splits and subsets, apart from every order of a training pass."""
    drawn = draw(seed, np.arange(count, dtype=np.int64), -1, stream)
    return np.argsort(drawn, kind="stable").astype(np.int64, copy=False)


def uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Random bits as numbers in (0, 1), never one of the ends, so that their logarithms are finite."""
    return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / float(1 << 53)


@contextmanager
def keyed(seed: int, index: int, view: int) -> Iterator[None]:
    """Seed `random`, NumPy and torch's CPU generator by (seed, index, view), and restore them on leaving."""
    word = int(draw(seed, np.array([index], dtype=np.int64), view)[0])
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    random.seed(word)
    np.random.seed(word & 0xFFFFFFFF)
    torch.default_generator.manual_seed(word >> 1)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])
