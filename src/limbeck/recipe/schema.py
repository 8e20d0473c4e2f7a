"""JSON Schema of recipes, so that an editor completes and checks them."""

import copy
import inspect
from typing import Any

from limbeck.recipe.recipe import Recipe

__all__ = ["schema"]

_TYPES: dict[Any, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def schema(*, methods: bool = False) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a recipe.

    Args:
        methods: also list every method of this installation with its options under `objective`; this
            imports torch.
    """
    result = Recipe.model_json_schema()
    parts = result["$defs"]
    owners = (result, *(parts[name] for name in ("Network", "ControlSpec", "VariantSpec")))
    for owner in owners:
        terms = _mapping(owner["properties"]["objective"])
        terms["additionalProperties"] = False  # beside the pattern that names must match
    _short_forms(parts)
    figures = result["properties"]["metrics"]
    figures["additionalProperties"] = False  # beside the pattern that names must match
    listed = {"type": "array", "items": {"type": "string"}, "description": "Names of figures."}
    trackers = result["properties"]["track"]
    listed_trackers = {"type": "array", "items": {"type": "string"}, "description": "Names of trackers."}
    trackers["additionalProperties"] = {"anyOf": [trackers["additionalProperties"], {"type": "null"}]}
    result["properties"]["track"] = {
        "description": trackers.pop("description"),
        "anyOf": [listed_trackers, trackers],
    }
    result["properties"]["metrics"] = {"description": figures.pop("description"), "anyOf": [listed, figures]}
    _partial_training(parts)
    _links(parts)
    if methods:
        for owner in owners:
            _name_methods(_mapping(owner["properties"]["objective"]), parts)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **result,
        "title": "Limbeck recipe",
    }


def _short_forms(parts: dict[str, Any]) -> None:
    """Add the short forms that are written out before pydantic sees them."""
    for name, short in (
        ("TermSpec", {"type": "number", "minimum": 0, "description": "The term's weight."}),
        ("SchemeSpec", {"type": "string", "description": "The scheme's name."}),
        ("WeightingSpec", {"type": ["string", "array"], "description": "Its name, or numbers."}),
        ("CheckpointSpec", {"enum": ["last", "best", "average"], "description": "Which weights are taken."}),
        ("CacheSpec", {"type": ["integer", "boolean", "string"], "description": "Views, whether, or where."}),
        ("EmaSpec", {"type": ["number", "boolean"], "description": "The decay; true: the usual one."}),
    ):
        full = parts[name]
        parts[name] = {"description": full["description"], "anyOf": [short, full]}
    parts["TermSpec"]["anyOf"].append({"type": "null", "description": "No such term."})
    training = parts["TrainSpec"]["properties"]
    word = {"enum": ["teacher", "student", "both"], "description": "One of them, or both."}
    shard = training["shard"]
    training["shard"] = {"description": shard.pop("description"), "anyOf": [word, shard]}
    settings = parts["InputSettings"]["properties"]
    for key in ("mean", "std"):
        settings[key]["anyOf"].insert(0, {"type": "number"})
    layers = parts["TermSpec"]["anyOf"][1]["properties"]["layers"]
    _mapping(layers)["additionalProperties"] = {"type": ["string", "integer"]}


def _partial_training(parts: dict[str, Any]) -> None:
    """A teacher's and a control's `train` take what they do not give from the recipe's own."""
    partial = copy.deepcopy(parts["TrainSpec"])
    partial.pop("required")
    parts["PartialTrainSpec"] = {**partial, "title": "PartialTrainSpec"}
    for name in ("Network", "ControlSpec"):
        for branch in _branches(parts[name]["properties"]["train"]):
            if branch.get("$ref") == "#/$defs/TrainSpec":
                branch["$ref"] = "#/$defs/PartialTrainSpec"


def _links(parts: dict[str, Any]) -> None:
    """What a link of a chain lays over the recipe has the form of what it lies on."""
    fields = parts["LinkSpec"]["properties"]
    forms: dict[str, Any] = {
        "teacher": {"$ref": "#/$defs/Network"},
        "student": {"$ref": "#/$defs/Network"},
        "objective": {"type": "object", "additionalProperties": {"$ref": "#/$defs/TermSpec"}},
        "stages": {"type": "array", "items": {"$ref": "#/$defs/StageSpec"}},
        "train": {"$ref": "#/$defs/PartialTrainSpec"},
    }
    for key, form in forms.items():
        fields[key] = {**fields[key], "anyOf": [form, {"type": "null"}]}
    control = [{"type": "boolean"}, {"$ref": "#/$defs/ControlSpec"}, {"type": "null"}]
    fields["control"] = {**fields["control"], "anyOf": control}


def _branches(field: dict[str, Any]) -> list[dict[str, Any]]:
    """Every alternative of a field, nested ones too."""
    inner = [b for key in ("anyOf", "oneOf") for b in field.get(key, [])]
    return [field, *(leaf for branch in inner for leaf in _branches(branch))]


def _mapping(field: dict[str, Any]) -> dict[str, Any]:
    """The alternative of a field that is a mapping."""
    return next(branch for branch in _branches(field) if branch.get("type") == "object")


def _name_methods(terms: dict[str, Any], parts: dict[str, Any]) -> None:
    """Name every method and alias under `objective`, each with its own options."""
    from limbeck import methods

    properties = terms.setdefault("properties", {})
    for name in methods.names():
        kind = methods.get(name)
        title = f"{name}: {kind.paper}" if kind.paper else name
        parts[f"term.{name}"] = _term(parts["TermSpec"], methods.options(kind), title)
        for word in (name, *kind.aliases):
            properties[word] = {"$ref": f"#/$defs/term.{name}"}


def _term(term: dict[str, Any], options: dict[str, inspect.Parameter], title: str) -> dict[str, Any]:
    result = copy.deepcopy(term)
    full = result["anyOf"][1]
    for key, parameter in options.items():
        full["properties"].setdefault(key, _option(key, parameter))
    # A `method:` inside makes the term's name arbitrary, so other options stay allowed then.
    result["description"] = title
    return result


def _option(key: str, parameter: inspect.Parameter) -> dict[str, Any]:
    found: dict[str, Any] = {"description": f"The method's option {key}."}
    if parameter.annotation in _TYPES:
        found["type"] = _TYPES[parameter.annotation]
    if isinstance(parameter.default, bool | int | float | str):
        found["default"] = parameter.default
    return found
