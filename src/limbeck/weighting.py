"""Weights of terms that change over the epochs: `Ramp` and `Steps`."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Changing", "Ramp", "Steps"]


class Changing(ABC):
    """A weight as a function of the epochs done."""

    end: float
    """The weight that it ends with."""

    @abstractmethod
    def at(self, epoch: float) -> float:
        """The weight after `epoch` epochs (a fraction is allowed)."""

    @abstractmethod
    def numbers(self) -> Iterable[object]:
        """What it was made from, to be checked."""


@dataclass(frozen=True, slots=True)
class Ramp(Changing):
    """A weight that goes from `start` to `end` over the first `epochs` epochs, and stays there.

    `linear` goes in a straight line; `cosine` slowly at both ends; `sigmoid` along exp(−5 (1 − x)²), the
    ramp-up of Laine and Aila (2017, https://arxiv.org/abs/1610.02242).
    """

    start: float
    end: float
    epochs: float
    shape: Literal["linear", "cosine", "sigmoid"] = "linear"

    def at(self, epoch: float) -> float:
        share = min(1.0, epoch / self.epochs) if self.epochs > 0 else 1.0
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        elif self.shape == "sigmoid" and share < 1:
            share = math.exp(-5 * (1 - share) ** 2)
        return self.start + (self.end - self.start) * share

    def numbers(self) -> Iterable[object]:
        return (self.start, self.end, self.epochs)


class Steps(Changing):
    """A weight that jumps: `Steps({0: 1.0, 150: 0.1})` is 1 at first, and .1 from 150 epochs done on.

    Args:
        values: the weight from each number of epochs on; before the first one it is the first one's.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, values: Mapping[float, float]) -> None:
        if not values:
            raise ValueError("Steps needs at least one weight, {epoch: weight}")
        self.values = dict(sorted(values.items()))
        self.end = list(self.values.values())[-1]

    def __repr__(self) -> str:
        return f"Steps({self.values})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Steps) and self.values == other.values

    def __hash__(self) -> int:
        return hash(tuple(self.values.items()))

    def at(self, epoch: float) -> float:
        reached = [weight for start, weight in self.values.items() if start <= epoch]
        return reached[-1] if reached else next(iter(self.values.values()))

    def numbers(self) -> Iterable[object]:
        return (*self.values, *self.values.values())
