"""The JSON Schema says what recipes allow, with words for every key, so that an editor helps."""

import copy
import json
import re
from typing import Any

import pytest

from limbeck.errors import InputError
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe, schema
from limbeck.template import template

GOOD: dict[str, Any] = {
    "name": "a",
    "seeds": [0, 1],
    "teacher": {"model": "cifar:resnet32", "train": {"clip": 1}, "classes": ["a", 1], "shortcut": "pad"},
    "student": {"model": "cifar:resnet20", "input": {"mean": 0.5, "std": [0.5]}},
    "data": {"source": "digits", "root": None},
    "objective": {"ce": 1, "kd": {"temperature": 2}, "hint": {"layers": {"layer1": 2}}, "dkd": None},
    "scheme": "offline",
    "train": {"epochs": 3, "optimizer": {"lr": 0.1, "momentum": 0.9}, "ema": 0.99, "checkpoint": "best"},
    "metrics": ["top5"],
    "small": {"train.epochs": 1},
    "control": {"train": {"clip": None}},
    "chain": [{"name": "a", "student": {"model": "cifar:resnet32"}, "train": {"clip": 2}}, {"name": "b"}],
    "export": {"formats": ["onnx"]},
}

BAD = [
    {"nam": "b"},
    {"name": 3},
    {"name": "a/b"},
    {"seeds": "x"},
    {"seeds": 0},
    {"seeds": True},
    {"teacher": {"weights": "x"}},
    {"teacher": {"model": "x", "train": {"epoch": 1}}},
    {"data": {"source": "digits", "batchsize": 1}},
    {"data": {"source": "digits", "validation": 1}},
    {"objective": {}},
    {"objective": {"a b": 1}},
    {"objective": {"kd": -1}},
    {"objective": {"kd": {"weight": {"start": 0}}}},
    {"objective": {"kd": {"layers": "all"}}},
    {"scheme": 3},
    {"train": {}},
    {"train": {"epochs": 1, "precision": "fp8"}},
    {"control": 3},
    {"export": {"formats": ["onx"]}},
    {"metric": "speed"},
    {"metrics": "top5"},
    {"metrics": {"a b": {}}},
    {"train": {"epochs": 1, "ema": {"decay": 2}}},
    {"train": {"epochs": 1, "checkpoint": "frist"}},
    {"stages": [{"epochs": 1}]},
    {"chain": [{"nam": "a"}, {"name": "b"}]},
    {"chain": [{"name": "a", "student": {"weights": "x"}}, {"name": "b"}]},
    {"chain": {"generations": 1}},
]

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def of_type(value: Any, name: str) -> bool:
    if name in ("integer", "number"):
        return isinstance(value, int if name == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[name])


def fits(value: Any, rule: Any, parts: dict[str, Any]) -> bool:
    """A small JSON Schema validator: the words that this project's schema uses, and no other."""
    known = {
        "type",
        "anyOf",
        "oneOf",
        "$ref",
        "properties",
        "patternProperties",
        "additionalProperties",
        "items",
    }
    known |= {
        "required",
        "enum",
        "const",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "pattern",
    }
    known |= {
        "minLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "title",
        "description",
        "default",
    }
    if isinstance(rule, bool):
        return rule
    assert set(rule) <= known | {"$schema", "$defs"}, set(rule) - known
    if "$ref" in rule and not fits(value, parts[rule["$ref"].removeprefix("#/$defs/")], parts):
        return False
    types = rule.get("type", [])
    if types and not any(of_type(value, t) for t in ([types] if isinstance(types, str) else types)):
        return False
    if "enum" in rule and value not in rule["enum"]:
        return False
    if "const" in rule and value != rule["const"]:
        return False
    for word, many in (("anyOf", True), ("oneOf", False)):
        if word in rule:
            count = sum(fits(value, option, parts) for option in rule[word])
            if count == 0 or (count > 1 and not many):
                return False
    return in_range(value, rule) and inside_fits(value, rule, parts)


def in_range(value: Any, rule: dict[str, Any]) -> bool:
    if isinstance(value, str):
        return len(value) >= rule.get("minLength", 0) and bool(re.search(rule.get("pattern", ""), value))
    if isinstance(value, int | float):
        low, high = rule.get("minimum", value), rule.get("maximum", value)
        over, under = rule.get("exclusiveMinimum", value - 1), rule.get("exclusiveMaximum", value + 1)
        return bool(low <= value <= high and over < value < under)
    return True


def inside_fits(value: Any, rule: dict[str, Any], parts: dict[str, Any]) -> bool:
    if isinstance(value, list):
        enough = rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value))
        return enough and all(fits(item, rule.get("items", True), parts) for item in value)
    if not isinstance(value, dict):
        return True
    if not rule.get("minProperties", 0) <= len(value) or set(rule.get("required", [])) - set(value):
        return False
    for key, item in value.items():
        rules = [rule["properties"][key]] if key in rule.get("properties", {}) else []
        rules += [r for pattern, r in rule.get("patternProperties", {}).items() if re.search(pattern, key)]
        if not all(fits(item, r, parts) for r in rules or [rule.get("additionalProperties", True)]):
            return False
    return True


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "with methods"])
def rules(request: pytest.FixtureRequest) -> dict[str, Any]:
    return schema(methods=request.param)


def test_it_is_json_and_names_its_draft(rules: dict[str, Any]) -> None:
    assert json.loads(json.dumps(rules)) == rules
    assert rules["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_reference_leads_somewhere(rules: dict[str, Any]) -> None:
    references = set(re.findall(r'"#/\$defs/([^"]*)"', json.dumps(rules)))
    assert references <= set(rules["$defs"])


def test_every_key_is_described(rules: dict[str, Any]) -> None:
    def walk(rule: Any, place: str) -> list[str]:
        if isinstance(rule, list):
            return [lack for item in rule for lack in walk(item, place)]
        if not isinstance(rule, dict):
            return []
        lacking = []
        for key, field in rule.get("properties", {}).items():
            described = "description" in field or set(field) == {"$ref"}
            lacking += [] if described else [f"{place}.{key}"]
        return lacking + [lack for key, inner in rule.items() for lack in walk(inner, f"{place}.{key}")]

    assert walk(rules, "") == []
    undescribed = [name for name, part in rules["$defs"].items() if not part.get("description")]
    assert undescribed == []


def test_only_parts_with_options_take_unknown_keys() -> None:
    parts = schema()["$defs"]
    full = {name: part["anyOf"][1] if "anyOf" in part else part for name, part in parts.items()}
    taking = {name for name, part in full.items() if part["additionalProperties"] is not False}
    assert taking == {
        "MetricSpec",
        "Network",
        "TermSpec",
        "SchemeSpec",
        "OptimizerSpec",
        "WeightingSpec",
    }
    assert schema()["additionalProperties"] is False


def test_it_allows_what_the_recipe_allows(rules: dict[str, Any]) -> None:
    texts = [
        template("cifar:resnet56", "cifar10"),
        template("timm:resnet18", "folder:x", "torchvision:resnet18"),
    ]
    for data in (GOOD, *(read_yaml(text) for text in texts)):
        recipe = Recipe.from_dict(data)
        assert fits(data, rules, rules["$defs"])
        assert fits(recipe.dump(), rules, rules["$defs"])


@pytest.mark.parametrize("change", BAD, ids=[json.dumps(change) for change in BAD])
def test_it_refuses_what_the_recipe_refuses(rules: dict[str, Any], change: dict[str, Any]) -> None:
    data = {**copy.deepcopy(GOOD), **change}
    with pytest.raises(InputError):
        Recipe.from_dict(data)
    assert not fits(data, rules, rules["$defs"])


def test_methods_and_their_options_are_named_for_completion() -> None:
    rules = schema(methods=True)
    terms = rules["properties"]["objective"]["properties"]
    assert {"kd", "dkd", "decoupled_kd", "cross_entropy"} <= set(terms)
    assert terms["dkd"] == terms["decoupled_kd"]
    options = rules["$defs"]["term.kd"]["anyOf"][1]["properties"]
    assert {"weight", "layers", "temperature"} <= set(options)
