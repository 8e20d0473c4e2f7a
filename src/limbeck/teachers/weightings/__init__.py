"""How much each of several teachers counts, one kind a file: `weighting:` of a recipe."""

import inspect
from collections.abc import Mapping
from typing import Any

from limbeck.errors import InputError, unknown
from limbeck.teachers.weightings.average import Average
from limbeck.teachers.weightings.base import Weighting
from limbeck.teachers.weightings.confidence import Confidence
from limbeck.teachers.weightings.entropy import Entropy
from limbeck.teachers.weightings.gradient import Gradient
from limbeck.teachers.weightings.learned import Learned

__all__ = ["KINDS", "Average", "Confidence", "Entropy", "Gradient", "Learned", "Weighting", "create"]

KINDS: dict[str, type[Weighting]] = {
    "average": Average,
    "confidence": Confidence,
    "entropy": Entropy,
    "gradient": Gradient,
    "learned": Learned,
}


def create(name: str, options: Mapping[str, Any], teachers: int, where: str = "weighting") -> Weighting:
    """A weighting by name, its options checked; it is yet to be set up.

    Args:
        name: of its kind.
        options: its own.
        teachers: how many there are.
        where: the place of the name, for messages.

    Raises:
        InputError: no such kind or option, a value that it refuses, or too many teachers for it.
    """
    if name not in KINDS:
        raise unknown("weighting", name, KINDS, where)
    kind = KINDS[name]
    takes = inspect.signature(kind).parameters.values()
    allowed = [one.name for one in takes if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    for key in options:
        if key not in allowed:
            raise unknown(f"option of {name}", key, allowed, where)
    if kind.most is not None and teachers > kind.most:
        raise InputError(f"{where}: {name} is for {kind.most} teachers at most; there are {teachers}.")
    try:
        made = kind(**options)
        made.setup(teachers, 1)
    except ValueError as error:
        raise InputError(f"{where}: {error}.") from error
    return kind(**options)
