"""The kinds of a scheme, by file: `schemes/online/mutual.py` is `{name: online, kind: mutual}` in a recipe.

Dropping a file into one of the folders is all that adding a kind takes: recipes, `limbeck check`, the docs
and the contract tests find it by its name.
"""

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any

from limbeck.errors import InputError, unknown
from limbeck.methods._files import only_class
from limbeck.schemes.base import Kind

__all__ = ["FAMILIES", "card", "check", "get", "kinds", "options"]

FAMILIES = ("online", "own")
"""Schemes that have kinds; `offline` is one by itself."""


def kinds(family: str) -> list[str]:
    """The kinds of a scheme, sorted; none is imported."""
    package = importlib.import_module(f"limbeck.schemes.{family}")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def get(family: str, kind: str, *, where: str = "scheme.kind") -> type[Kind]:
    """The class of a kind.

    Args:
        family: `online` or `own`.
        kind: its name or alias.
        where: place of the name, for the message.

    Raises:
        InputError: there is no such kind; the message names the nearest.
    """
    known = kinds(family)
    if kind in known:
        return _only_kind(family, kind)
    by_alias = {alias: name for name in known for alias in _only_kind(family, name).aliases}
    if kind in by_alias:
        return _only_kind(family, by_alias[kind])
    raise unknown(f"kind of the scheme {family}", kind, [*known, *by_alias], where)


def options(cls: type[Kind]) -> dict[str, inspect.Parameter]:
    """What a recipe may set for a kind, by name: the keyword-only arguments of its constructor."""
    parameters = inspect.signature(cls.__init__).parameters.values()
    return {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def check(cls: type[Kind], values: Mapping[str, Any], where: str, more: tuple[str, ...] = ()) -> None:
    """See whether a kind has these options, and whether they are in range.

    Args:
        cls: the kind.
        values: by name.
        where: place of the scheme, for the message.
        more: further keys that may stand there, for the message.

    Raises:
        InputError: one is unknown, lacking or out of range.
    """
    allowed = options(cls)
    for key in values:
        if key not in allowed:
            raise unknown(f"option of {name_of(cls)}", key, [*allowed, *more], where)
    lacking = [k for k, p in allowed.items() if p.default is p.empty and k not in values]
    if lacking:
        raise InputError(f"{where}: {name_of(cls)} needs the option {lacking[0]}.")
    try:
        cls.check(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {name_of(cls)}: {error}") from error


def name_of(cls: type[Kind]) -> str:
    """The name that a recipe calls a kind by."""
    return cls.__module__.rpartition(".")[2]


def card(cls: type[Kind]) -> dict[str, Any]:
    """What there is to know about a kind, for pages; ready for JSON."""
    return {
        "family": cls.__module__.split(".")[-2],
        "name": name_of(cls),
        "aliases": list(cls.aliases),
        "paper": cls.paper,
        "options": {k: None if p.default is p.empty else p.default for k, p in options(cls).items()},
        "published": dict(cls.published),
        "reads_layers": cls.reads_layers,
        "summary": (inspect.getdoc(cls) or "").split("\n")[0],
        "doc": inspect.getdoc(sys.modules[cls.__module__]) or "",
    }


def _only_kind(family: str, kind: str) -> type[Kind]:
    found: type[Kind] = only_class(importlib.import_module(f"limbeck.schemes.{family}.{kind}"), Kind, "Kind")
    return found
