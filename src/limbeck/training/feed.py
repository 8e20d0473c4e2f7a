"""What a trainer iterates: `Feed`."""

from collections.abc import Iterator
from typing import Protocol

from limbeck.knowledge import Batch

__all__ = ["Feed"]


class Feed(Protocol):
    """What the trainer iterates: `limbeck.data.loader.Loader`, or a face over any other loader."""

    complete: bool
    """Whether every sample is known to carry a label, so that nobody has to count."""

    def __len__(self) -> int: ...

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        """The batches of pass `view` from number `start` on, each as a list of equal parts."""
