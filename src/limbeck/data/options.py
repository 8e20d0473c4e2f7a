"""Options that a recipe gives as a mapping, with errors that name the key."""

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, ClassVar, NoReturn, Self

from limbeck.errors import InputError, unknown

__all__ = ["Options", "check_bool", "check_choice", "check_count", "check_number"]


class Options:
    """A dataclass that is built from a recipe's mapping."""

    where: ClassVar[str] = "data.views"
    """The recipe's key, for messages."""

    @classmethod
    def make(cls, given: Mapping[str, Any] | None, usual: Mapping[str, Any] | None = None) -> Self:
        """The options given, then the usual ones, then the defaults.

        Raises:
            InputError: a key that does not exist, or a value that is not possible.
        """
        allowed = {f.name for f in fields(cls)}  # type: ignore[arg-type]  # every subclass is a dataclass
        for key in given or {}:
            if key not in allowed:
                raise unknown("key", str(key), allowed, where=cls.where)
        return cls(**{**(usual or {}), **(given or {})})

    def refuse(self, why: str) -> NoReturn:
        """Say what is wrong with these options as a whole."""
        raise InputError(f"{self.where}: {why}")


def check_bool(place: str, value: object) -> None:
    """Refuse what is not true or false."""
    if not isinstance(value, bool):
        raise InputError(f"{place}: must be true or false, got {value!r}")


def check_count(place: str, value: object, least: int) -> None:
    """Refuse what is not a whole number from `least` up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{place}: must be a whole number from {least} up, got {value!r}")


def check_number(place: str, value: object, least: float, most: float) -> None:
    """Refuse what is not a number in [least, most]."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not least <= float(value) <= most:  # type: ignore[arg-type]  # a number, see above
        raise InputError(f"{place}: must be a number from {least:g} to {most:g}, got {value!r}")


def check_choice(place: str, value: object, allowed: Collection[str]) -> None:
    """Refuse what is not one of some words."""
    if value not in allowed:
        raise unknown("value", str(value), allowed, where=place)
