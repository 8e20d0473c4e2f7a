"""Mappings of SuperGradients' keys: what is known is taken, and nothing is passed over in silence."""

import warnings
from collections.abc import Mapping
from typing import Any

from limbeck.errors import InputError, unknown

__all__ = ["Keys", "warn"]


def warn(message: str) -> None:
    """Tell the user, loudly and in each run."""
    warnings.warn(message, UserWarning, stacklevel=4)


class Keys:
    """The entries of one mapping, taken one by one; what is left in the end is an error.

    Args:
        given: the user's mapping.
        name: what SuperGradients calls it, for messages.
        gone: keys that SuperGradients has and that make no sense here, each with the reason.
    """

    def __init__(self, given: Mapping[str, Any] | None, name: str, gone: Mapping[str, str]) -> None:
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
        """The value of a key as a number."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise InputError(f"{self.place(key)}: must be a number from {least:g} up, given {value!r}.")
        return float(value)

    def count(self, key: str, default: int, *, least: int = 0) -> int:
        """The value of a key as a whole number."""
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{self.place(key)}: must be a whole number from {least} up, given {value!r}.")
        return value

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
        for key in self._left:
            if key in self._gone:
                raise InputError(f"{self.place(key)}: {self._gone[key]}")
        for key in self._left:
            raise unknown("key", str(key), self._asked, where=self._name)
