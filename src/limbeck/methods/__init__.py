"""The catalogue of methods. A file in this folder is a method; its name is the method's name in a recipe.

Dropping a file in is all that adding one takes: it is found by its name, and read when it is asked for.
A third party's method is named `package.module:Class`.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.errors import InputError, unknown
from limbeck.importing import find_object
from limbeck.methods._files import only_class
from limbeck.methods.base import Method, Probe

__all__ = ["Method", "Probe", "card", "create", "file_name", "functions", "get", "names", "options"]

_NOT_METHODS = {"base", "testing"}


def names() -> list[str]:
    """Names of all methods of this package, sorted; no method is imported."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if name not in _NOT_METHODS and not name.startswith("_"))


def get(name: str, *, where: str = "", beside: Path | None = None) -> type[Method]:
    """The class of a method.

    Args:
        name: a method's name or alias, or `package.module:Class` for a third party's.
        where: place of the name, for the message ("objective.kd").
        beside: a folder to look for a third party's module in as well (the recipe's).

    Raises:
        InputError: there is no such method; the message names the nearest.
    """
    if ":" in name:
        return _third_party(name, where, beside)
    if name in names():
        return _own(name)
    by_alias = {alias: found for found in names() for alias in _own(found).aliases}
    if name in by_alias:
        return _own(by_alias[name])
    raise unknown("method", name, [*names(), *by_alias], where)


def file_name(cls: type[Method]) -> str:
    """The name that results carry: the file's name, or `package.module:Class` for a third party's method."""
    package, _, module = cls.__module__.rpartition(".")
    return module if package == __name__ else f"{cls.__module__}:{cls.__qualname__}"


def functions(name: str) -> dict[str, Callable[..., Tensor]]:
    """The pure functions of a method of this package: what its file's `__all__` offers beside the class."""
    module = importlib.import_module(f"{__name__}.{name}")
    public = {key: getattr(module, key) for key in getattr(module, "__all__", ())}
    return {key: value for key, value in public.items() if inspect.isfunction(value)}


def options(cls: type[Method]) -> dict[str, inspect.Parameter]:
    """What a recipe may set for a method, by name: the keyword arguments of its constructor."""
    if cls.__init__ is Method.__init__:
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    return {p.name: p for p in parameters if p.kind in named}


def create(name: str, values: Mapping[str, Any], *, where: str = "", beside: Path | None = None) -> Method:
    """Build a method from a recipe's words; see `get` for `name`, `where` and `beside`.

    Raises:
        InputError: no such method, an option that it does not have or lacks, or a value out of range.
    """
    cls = get(name, where=where, beside=beside)
    allowed = options(cls)
    for key in values:
        if key not in allowed:
            raise unknown(f"option of {file_name(cls)}", key, allowed, where)
    place = f"{where}: " if where else ""
    lacking = [k for k, p in allowed.items() if p.default is p.empty and k not in values]
    if lacking:
        raise InputError(f"{place}{file_name(cls)} needs the option {lacking[0]}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}{file_name(cls)}: {error}") from error


def card(cls: type[Method]) -> dict[str, Any]:
    """What there is to know about a method, for listings and pages; ready for JSON."""
    module = inspect.getdoc(sys.modules[cls.__module__])
    return {
        "name": file_name(cls),
        "aliases": list(cls.aliases),
        "kind": cls.kind,
        "paper": cls.paper,
        "options": {
            key: {
                "type": None if p.annotation is p.empty else inspect.formatannotation(p.annotation),
                "default": None if p.default is p.empty else p.default,
                "required": p.default is p.empty,
            }
            for key, p in options(cls).items()
        },
        "published": dict(cls.published),
        "beside": cls.beside,
        "prefers": cls.prefers,
        "pairs": cls.pairs,
        "stage": cls.stage,
        "unlike": cls.unlike,
        "reuses_head": cls.reuses_head,
        "hard_targets": cls.hard_targets,
        "minimum": cls.minimum,
        "random": cls.random,
        "stateful": cls.stateful,
        "compares_samples": cls.compares_samples,
        "summary": (inspect.getdoc(cls) or "").split("\n")[0],
        "doc": module or inspect.getdoc(cls) or "",
    }


def _own(name: str) -> type[Method]:
    found: type[Method] = only_class(importlib.import_module(f"{__name__}.{name}"), Method, "Method class")
    return found


def _third_party(name: str, where: str, beside: Path | None) -> type[Method]:
    found = find_object(name, beside=beside, where=where, wanted="Class", fits=_is_method)
    if not _is_method(found) or inspect.isabstract(found):
        place = f"{where}: " if where else ""
        raise InputError(f"{place}{name} is not a class derived from limbeck.methods.Method with a forward")
    cls: type[Method] = found
    return cls


def _is_method(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Method) and value is not Method
