"""Mappings of SuperGradients' keys: what is known is taken, and nothing is passed over in silence."""

import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.errors import InputError, unknown

__all__ = ["Gone", "Keys", "none_left", "warn"]

_HERE = __name__.rpartition(".")[0]


@dataclass(frozen=True, slots=True)
class Gone:
    """A key that SuperGradients has and that has no meaning here.

    Attributes:
        why: what there is instead; the end of a message.
        harmless: values with which it asks for nothing, or for what happens anyway, besides None and what is
            empty. SuperGradients' own complete sets of parameters hold all keys, most with such a value.
    """

    why: str
    harmless: tuple[object, ...] = ()

    def asks_for_nothing(self, value: object) -> bool:
        """Whether a value may be there, since nothing would be different without it."""
        if value is None or (isinstance(value, str | Sequence | Mapping) and not len(value)):
            return True
        return any(type(value) is type(one) and value == one for one in self.harmless)


def warn(message: str) -> None:
    """Tell the user, loudly and in each run; the line shown is that of the user's script."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_HERE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


class Keys:
    """The entries of one mapping, taken one by one; what is left in the end is an error.

    Args:
        given: the user's mapping.
        name: what SuperGradients calls it, for messages.
        gone: keys that SuperGradients has and that make no sense here.
    """

    def __init__(self, given: Mapping[str, Any] | None, name: str, gone: Mapping[str, Gone]) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f"{name}: must be a mapping, given {type(given).__name__}.")
        self._left = dict(given or {})
        self._name = name
        self._gone = gone
        self._asked: list[str] = []

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def place(self, key: str) -> str:
        """How messages name a key."""
        return f"{self._name}.{key}"

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, as it is."""
        self._asked.append(key)
        return self._left.pop(key, default)

    def number(self, key: str, default: float, *, least: float = 0.0) -> float:
        """The value of a key as a number; NumPy's count as well."""
        value = self.take(key, default)
        plain = value.item() if hasattr(value, "item") else value
        if isinstance(plain, bool) or not isinstance(plain, int | float) or not plain >= least:
            raise InputError(f"{self.place(key)}: must be a number from {least:g} up, given {value!r}.")
        return float(plain)

    def limit(self, key: str) -> float | None:
        """The value of a key as a number above 0; None where it is 0, None, or not given: no limit."""
        if self._left.get(key) is None:
            self.take(key)
            return None
        return self.number(key, 0.0) or None

    def count(self, key: str, default: int, *, least: int = 0) -> int:
        """The value of a key as a whole number; NumPy's count as well."""
        value = self.take(key, default)
        plain = value.item() if hasattr(value, "item") else value
        if isinstance(plain, bool) or not isinstance(plain, int) or plain < least:
            raise InputError(f"{self.place(key)}: must be a whole number from {least} up, given {value!r}.")
        return plain

    def switch(self, key: str, default: bool) -> bool:
        """The value of a key as true or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise InputError(f"{self.place(key)}: must be True or False, given {value!r}.")
        return value

    def choice(self, key: str, default: str | None, allowed: Mapping[str, Any]) -> Any:
        """What one of some words means; capitals do not matter."""
        value = self.take(key, default)
        if value is None:
            return None
        found = {name.lower(): meaning for name, meaning in allowed.items()}
        if not isinstance(value, str) or value.lower() not in found:
            raise unknown(key, str(value), allowed, where=self._name)
        return found[value.lower()]

    def close(self) -> None:
        """Refuse what is left.

        Raises:
            InputError: a key that has no meaning here, with the reason or the nearest match.
        """
        for key, value in self._left.items():
            if key not in self._gone:
                raise unknown("key", str(key), self._asked, where=self._name)
            if not self._gone[key].asks_for_nothing(value):
                raise InputError(f"{self.place(key)}: {self._gone[key].why}")


def none_left(
    others: Mapping[str, Any], name: str, allowed: Sequence[str], gone: Mapping[str, Gone] | None = None
) -> None:
    """Refuse keyword arguments that a function does not have.

    Args:
        others: what its `**others` took up.
        name: of the function.
        allowed: its arguments.
        gone: arguments that SuperGradients' function has.

    Raises:
        InputError: the first of them, with the reason or the nearest match.
    """
    keys = Keys(others, name, gone or {})
    for argument in allowed:
        keys.take(argument)
    keys.close()
