"""What a Python caller gives instead of YAML, made plain and held to the same rules."""

import numbers
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from limbeck.errors import InputError
from limbeck.reading import MAX_DEPTH, MAX_VALUES, MAX_WHOLE, refusal, shown

__all__ = ["plain"]


def plain(value: object, where: str = "recipe") -> Any:
    """The same structure made of dict, list, str, int, float, bool and None only, checked as YAML is.

    Args:
        value: what a Python caller gave; tuples become lists, paths text, whole-number keys text.
        where: what to call the structure in messages.

    Raises:
        InputError: another type, a value that this module refuses, nesting too deep or endless.
    """
    return _Copier(where).copy(value, (), ())


class _Copier:
    """Copies a structure, with the place of each value at hand for messages."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.values = 0

    def refuse(self, place: tuple[str, ...], problem: str) -> InputError:
        return InputError(f"{self.where}: {'.'.join(place)}{': ' if place else ''}{problem}.")

    def copy(self, value: object, place: tuple[str, ...], parents: tuple[int, ...]) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            raise self.refuse(place, f"unfolds to more than {MAX_VALUES:,} values")
        if not isinstance(value, Mapping | list | tuple):
            return self.scalar(value, place)
        if id(value) in parents:
            raise self.refuse(place, "must not contain itself")
        if len(parents) >= MAX_DEPTH:
            raise self.refuse(place, f"must not nest deeper than {MAX_DEPTH} levels")
        inside = (*parents, id(value))
        if not isinstance(value, Mapping):
            return [self.copy(item, (*place, str(n)), inside) for n, item in enumerate(value)]
        result: dict[str, Any] = {}
        for key, item in value.items():
            name = self.key(key, place)
            if name in result:
                raise self.refuse(place, f"the key {shown(name)} is given twice")
            result[name] = self.copy(item, (*place, name), inside)
        return result

    def key(self, key: object, place: tuple[str, ...]) -> str:
        if isinstance(key, int) and not isinstance(key, bool) and abs(key) < MAX_WHOLE:
            return str(int(key))
        if not isinstance(key, str) or not key:
            raise self.refuse(place, f"a key must be text, given {shown(key)}")
        if problem := refusal(key):
            raise self.refuse(place, f"a key {problem}")
        return str(key)

    def scalar(self, value: object, place: tuple[str, ...]) -> Any:
        result: bool | int | float | str | None
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, numbers.Integral):
            result = int(value)
        elif isinstance(value, float):
            result = float(value)
        elif isinstance(value, str | PurePath):
            result = str(value)
        else:
            allowed = "text, a number, true, false, null, a list or a mapping"
            raise self.refuse(place, f"must be {allowed}, given {shown(value)}")
        if problem := refusal(result):
            raise self.refuse(place, problem)
        return result
