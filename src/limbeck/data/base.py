"""What a source of data gives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck.data.samples import Samples

if TYPE_CHECKING:
    from limbeck.data.tasks import Tasks

__all__ = ["Data", "Request"]


@dataclass(frozen=True)
class Data:
    """The splits of a data set.

    Attributes:
        train: samples to learn from; some may carry no label.
        test: samples for the final figures; nothing is chosen on them.
        validation: samples for choosing, or None.
        classes: names of the classes for people.
        identifiers: names for machines (wnids) where they differ, else equal to `classes`.
        tasks: which classes a teacher knows already, where a student adds others; None: no such split.
    """

    train: Samples
    test: Samples
    validation: Samples | None
    classes: tuple[str, ...]
    identifiers: tuple[str, ...]
    tasks: "Tasks | None" = None

    @property
    def taught(self) -> "Data":
        """What a teacher is trained and tested on: the same, or the old task alone."""
        return self if self.tasks is None else self.tasks.before

    def hashes(self) -> dict[str, str]:
        """A fingerprint of each split that there is."""
        splits = {"training": self.train, "test": self.test, "validation": self.validation}
        found = {name: split.hash() for name, split in splits.items() if split is not None}
        before = {} if self.tasks is None else self.tasks.before.hashes()
        return {**found, **{f"old task's {name}": value for name, value in before.items()}}


@dataclass(frozen=True)
class Request:
    """What a source is asked for; see `limbeck.data.load` for the meaning.

    Attributes:
        name: what follows the prefix (`PATH` of `folder:PATH`), or the source's own name.
        root: folder to look in, absolute, or None for the usual places.
        views: the recipe's `data.views`; None or empty for the source's usual ones.
        options: the recipe's `data.options`.
        size: side of the images, in pixels; None for the source's own.
        beside: the recipe's folder.
    """

    name: str
    root: Path | None = None
    views: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    size: int | None = None
    beside: Path | None = None
