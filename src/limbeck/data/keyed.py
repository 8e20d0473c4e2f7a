"""Random numbers that depend on a key only, never on what was drawn before.

Two ways: `draw` hashes (seed, sample, view, stream) for many samples at once, for views of small images;
`keyed` seeds the usual generators around code that is not ours (torchvision's transforms, a user's data
set) and puts them back afterwards. For many samples, `restored` around the whole with a `reseed` for each
gives the same numbers in a tenth of the time.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["at", "draw", "keyed", "keyed_permutation", "more", "reseed", "restored", "seed_for", "uniform"]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _word(state: int, word: int) -> int:
    """The next state of a hash over words, in Python's own numbers: NumPy is slow at one at a time."""
    value = (state + word * _GOLDEN + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


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
    state = np.array([_word(0, seed)], dtype=np.uint64)
    if isinstance(view, np.ndarray):
        state = _mix(state + view.astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(_GOLDEN))
        state = _mix(state + np.uint64((stream * _GOLDEN + _GOLDEN) & _MASK))
    else:
        state[0] = _word(_word(int(state[0]), view), stream)
    return _mix(_mix(state + index.astype(np.uint64) * np.uint64(_GOLDEN)) ^ state)


def keyed_permutation(seed: int, count: int, stream: int) -> NDArray[np.int64]:
    """A permutation of 0..count-1 for splits and subsets, apart from every order of a training pass."""
    drawn = draw(seed, np.arange(count, dtype=np.int64), -1, stream)
    return np.argsort(drawn, kind="stable").astype(np.int64, copy=False)


def at(word: NDArray[np.uint64], place: NDArray[np.int64]) -> NDArray[np.uint64]:
    """What SplitMix64 draws at a place from 1 up, with `word` as its state; the two broadcast."""
    return _mix(word + place.astype(np.uint64) * np.uint64(_GOLDEN))


def more(word: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """The first draws of SplitMix64 from each word, [B] to [B, count]."""
    return at(word[:, None], np.arange(1, count + 1))


def uniform(bits: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Random bits as numbers in (0, 1), never one of the ends: 52 of them, as a half more still fits then."""
    return ((bits >> np.uint64(12)).astype(np.float64) + 0.5) / float(1 << 52)


@contextmanager
def keyed(seed: int, index: int, view: int) -> Iterator[None]:
    """Seed `random`, NumPy and torch's CPU generator by (seed, index, view), and restore them on leaving."""
    with restored():
        reseed(int(draw(seed, np.array([index], dtype=np.int64), view)[0]))
        yield


def reseed(word: int) -> None:
    """Seed `random`, NumPy and torch's CPU generator by 64 random bits; belongs within `restored`."""
    random.seed(word)
    np.random.seed(word & 0xFFFFFFFF)
    torch.default_generator.manual_seed(word >> 1)


@contextmanager
def restored() -> Iterator[None]:
    """Put `random`, NumPy's and torch's CPU generator back on leaving as they were."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def seed_for(seed: int, name: str) -> int:
    """A seed for each name under each seed: seed + 1 would give it the numbers of another run."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=7).digest())
