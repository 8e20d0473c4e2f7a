"""A catalogue by files: each holds one class, which is found by the file's name."""

import inspect
from types import ModuleType
from typing import Any

__all__ = ["only_class"]


def only_class(module: ModuleType, base: type[Any], called: str) -> type[Any]:
    """The one class derived from `base` that a file defines.

    Args:
        module: the file.
        base: what it is derived from; it may be abstract.
        called: how messages call such a class.

    Raises:
        TypeError: it defines none or several: a mistake in the file, not in a recipe.
    """
    found = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]
    if len(found) != 1:
        listed = ", ".join(c.__name__ for c in found) or "none"
        raise TypeError(f"{module.__file__} must define exactly one {called}; found {listed}")
    return found[0]
