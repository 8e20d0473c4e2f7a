"""Settings laid over a recipe's mapping: overrides of the command line, and a recipe's own small version."""

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

from limbeck.errors import InputError
from limbeck.reading import read_yaml, refusal, shown

__all__ = ["apply_overrides", "lay_over"]


def apply_overrides(data: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a recipe's mapping with `key.sub=value` settings laid over it, in order.

    Values are read as YAML; nothing after `=` means null. Mappings on the way are made where they are
    missing or null; items of a list are named by number. Whether a key exists is the recipe's to judge.

    Raises:
        InputError: no `=`, an empty key, a value that is not YAML, or a way that leads into plain text or a
            number.
    """
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for override in overrides:
        path, sign, text = override.partition("=")
        keys = path.strip().split(".")
        if not sign or not all(keys):
            raise InputError(f"override {shown(override)}: must look like key.sub=value.")
        if problem := refusal(path):
            raise InputError(f"override {shown(override)}: a key {problem}.")
        _set(result, keys, read_yaml(text, f"override {shown(override)}"), override)
    return result


def lay_over(data: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A copy of a recipe's mapping with settings laid over it: `{key.sub: value}`, in order.

    Args:
        data: the recipe.
        settings: values by dotted key.
        name: where the settings stand, for messages.

    Raises:
        InputError: an empty key, or a way that leads into plain text or a number.
    """
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for path, value in settings.items():
        keys = str(path).split(".")
        if not all(keys):
            raise InputError(f"{name}: {shown(path)} must look like key.sub.")
        _set(result, keys, copy.deepcopy(value), f"{name}.{path}")
    return result


def _set(data: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    here: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(here, list):
            if not re.fullmatch(r"[0-9]{1,6}", key) or int(key) >= len(here):
                place = ".".join(keys[:depth])
                raise InputError(
                    f"override {shown(override)}: {place} is a list of {len(here)}; "
                    f"its items are numbered from 0, given {shown(key)}."
                )
            if not last and here[int(key)] is None:
                here[int(key)] = {}
        elif not isinstance(here, dict):
            place = ".".join(keys[:depth])
            raise InputError(f"override {shown(override)}: {place} is {shown(here)}, which has no keys.")
        elif not last and here.get(key) is None:
            here[key] = {}
        at: Any = int(key) if isinstance(here, list) else key
        if last:
            here[at] = value
        else:
            here = here[at]
