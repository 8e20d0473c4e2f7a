"""Pydantic's findings, said in this project's words."""

import re
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from limbeck.errors import InputError, nearest
from limbeck.reading import shown
from limbeck.recipe.base import PATTERNS, STEPS, TAGS

__all__ = ["explain"]

_EXPECTED = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be {expected_tags}",
    "string_pattern_mismatch": "must match {pattern}",
}
_MOST = 5


def explain(error: ValidationError, model: type[BaseModel], where: str) -> InputError:
    """One error for everything that a recipe has wrong, one line for each finding (five at most).

    Args:
        error: pydantic's findings.
        model: the model that was checked against; its fields give the nearest key.
        where: the recipe's file, or "recipe".
    """
    found = error.errors(include_url=False)
    # A list whose items are wrong also counts as too short; the items are what to say.
    found = [e for e in found if not (e["type"] == "too_short" and _has_inner(e["loc"], found))]
    found = [e for e in found if not _inherited(e, found)]
    lines = list(dict.fromkeys(_sentence(dict(e), model) for e in found))
    if len(lines) == 1:
        return InputError(f"{where}: {lines[0]}")
    more = [f"… and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return InputError("\n  ".join([f"{where}: {len(lines)} things are wrong:", *lines[:_MOST], *more]))


def _inherited(error: Any, found: list[Any]) -> bool:
    """Whether a part that is taken from the recipe's own only repeats what is wrong there."""
    place = tuple(step for step in error["loc"] if step not in TAGS)
    if place[:1] == ("teacher",) and all(isinstance(step, int) for step in place[1:2]):
        place = place[:1] + place[2:]  # one of several
    if place[:2] not in (
        ("teacher", "train"),
        *(("control", key) for key in ("train", "objective", "stages")),
    ):
        return False
    return any(
        e["type"] == error["type"] and tuple(s for s in e["loc"] if s not in TAGS) == place[1:] for e in found
    )


def _has_inner(place: tuple[Any, ...], found: list[Any]) -> bool:
    return any(len(e["loc"]) > len(place) and e["loc"][: len(place)] == place for e in found)


def _sentence(error: dict[str, Any], model: type[BaseModel]) -> str:
    steps = [str(step) for step in error["loc"] if step not in TAGS]
    subject = ""
    if steps and steps[-1] == "[key]":
        steps.pop()
        subject = "this name "
    place = f"{'.'.join(steps)}: " if steps else ""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(steps, model)
    if kind == "missing":
        return f"{place}is missing. {_description(steps, model)}".rstrip()
    if kind == "value_error":
        return f"{place}{context['error']}."
    return (
        f"{place}{subject}{_expected(error, context)}, given {shown(error['input'])}.{_hint(error, context)}"
    )


def _expected(error: dict[str, Any], context: dict[str, Any]) -> str:
    kind = error["type"]
    if kind in ("too_short", "too_long"):
        least = kind == "too_short"
        count = context["min_length" if least else "max_length"]
        return f"must have at {'least' if least else 'most'} {count} {'entry' if count == 1 else 'entries'}"
    if kind == "string_pattern_mismatch" and context["pattern"] in PATTERNS:
        return f"must be {PATTERNS[context['pattern']]}"
    if kind == "union_tag_invalid":
        branches = [t for t in re.findall(r"'([^']*)'", context["expected_tags"]) if t != STEPS]
        return "must be " + " or ".join(branches)  # a mapping with steps is a mapping too
    if kind == "literal_error":
        said = str(context["expected"]).replace("'", '"')
        return "must be " + said.replace("True", "true").replace("False", "false")  # as YAML has them
    return _EXPECTED[kind].format(**context) if kind in _EXPECTED else str(error["msg"])


def _hint(error: dict[str, Any], context: dict[str, Any]) -> str:
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    return nearest(error["input"], re.findall(r"'([^']*)'", context["expected"]))


def _unknown_key(steps: list[str], model: type[BaseModel]) -> str:
    owner = _owner(steps, model)
    allowed = list(owner.model_fields) if owner else []
    place = f"{'.'.join(steps[:-1])}: " if steps[:-1] else ""
    listed = f" Allowed: {', '.join(sorted(allowed))}." if allowed else ""
    return f"{place}unknown key {shown(steps[-1])}.{nearest(steps[-1], allowed)}{listed}"


def _description(steps: list[str], model: type[BaseModel]) -> str:
    owner = _owner(steps, model)
    field = owner.model_fields.get(steps[-1]) if owner else None
    return (field.description or "") if field else ""


def _owner(steps: list[str], model: type[BaseModel]) -> type[BaseModel] | None:
    """The part of the recipe in which the last step stands."""
    here: Any = model
    for step in steps[:-1]:
        here = _inside(here, step)
    return _part(here)


def _inside(annotation: Any, step: str) -> Any:
    """What a field's annotation says about the value at a key of it; None when it says nothing."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(step)
        return field.annotation if field else None
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    if get_origin(annotation) is tuple:
        return arguments[0] if step.isdigit() else None
    return next((found for part in arguments if (found := _inside(part, step)) is not None), None)


def _part(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) is tuple:
        return None  # a list has no keys
    return next((found for part in get_args(annotation) if (found := _part(part))), None)
