"""Two tasks in one data set: classes that a teacher knows, and new ones that a student adds to them.

Only samples of the new task are left to learn from. Those of the old one lie apart, for the teacher that is
trained first; the student is tested on both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from limbeck.data.base import Data
from limbeck.data.samples import Samples
from limbeck.errors import InputError, unknown
from limbeck.knowledge import UNLABELLED, places

__all__ = ["Tasks", "split"]


@dataclass(frozen=True)
class Tasks:
    """Which classes are old and which are new.

    Attributes:
        old: indices of the old classes, rising.
        new: of all others, rising.
        before: the samples of the old classes alone, these numbered anew in the same order: what the teacher
            is trained and tested on.
    """

    old: tuple[int, ...]
    new: tuple[int, ...]
    before: Data


def split(data: Data, old: Sequence[str | int], where: str = "scheme.old") -> Data:
    """The data of a student that adds the other classes to some old ones.

    Args:
        data: all classes.
        old: names or indices of the old ones, in any order.
        where: place of these, for messages.

    Returns:
        The data with training and validation samples of the new task alone, the whole test split, the classes
        as they were, and `tasks`.

    Raises:
        InputError: a class is not known, is there twice, or one of the tasks has no class or no sample; or
            training samples carry no label, so that their task is not known.
    """
    known = _indices(data, old, where)
    new = tuple(number for number in range(len(data.classes)) if number not in known)
    if not known or not new:
        which = "old: there is no new task to learn" if known else "new: the teacher knows none of them"
        raise InputError(f"{where}: all {len(data.classes)} classes are {which}. Name some of the classes.")
    for name, samples in (("training", data.train), ("validation", data.validation)):
        count = 0 if samples is None else int((samples.targets == UNLABELLED).sum())
        if count:
            raise InputError(
                f"data: {count} {name} samples carry no label, so nobody can tell whether they belong to the "
                "old task, whose samples a student must not see; leave them out."
            )
    before = Data(
        train=_renumbered(_of(data.train, known, "training", "old"), known),
        test=_renumbered(_of(data.test, known, "test", "old"), known),
        validation=None
        if data.validation is None
        else _renumbered(_of(data.validation, known, "validation", "old"), known),
        classes=tuple(data.classes[number] for number in known),
        identifiers=tuple(data.identifiers[number] for number in known),
    )
    return replace(
        data,
        train=_of(data.train, new, "training", "new"),
        validation=None if data.validation is None else _of(data.validation, new, "validation", "new"),
        tasks=Tasks(known, new, before),
    )


def _indices(data: Data, given: Sequence[str | int], where: str) -> tuple[int, ...]:
    """The classes by index, rising."""
    names = {name: number for names in (data.identifiers, data.classes) for number, name in enumerate(names)}
    found: list[int] = []
    for item in given:
        if isinstance(item, str) and item not in names:
            raise unknown("class", item, data.classes, where)
        index = names[item] if isinstance(item, str) else item
        if not 0 <= index < len(data.classes):
            raise InputError(
                f"{where}: index {index} is out of range; the data have {len(data.classes)} classes, from 0 "
                f"to {len(data.classes) - 1}."
            )
        if index in found:
            raise InputError(f'{where}: the class "{data.classes[index]}" is there twice.')
        found.append(index)
    return tuple(sorted(found))


def _of(samples: Samples, classes: Sequence[int], name: str, task: str) -> Samples:
    """The samples of some classes."""
    index = torch.isin(samples.targets, torch.tensor(classes)).nonzero().flatten()
    if not len(index):
        raise InputError(f"data: there is no {name} sample of the {task} task.")
    return samples.subset(index.numpy())


def _renumbered(samples: Samples, classes: Sequence[int]) -> Samples:
    """The samples of some classes, which are all that they know of."""
    return replace(
        samples,
        targets=places(classes, len(samples.classes))[samples.targets],
        classes=tuple(samples.classes[number] for number in classes),
        identifiers=tuple(samples.identifiers[number] for number in classes),
    )
