"""Short forms of a recipe written out, before it is checked: so an override can reach inside them."""

from collections.abc import Mapping
from typing import Any

from limbeck.errors import InputError
from limbeck.overrides import lay_over
from limbeck.reading import shown
from limbeck.recipe.several import spread_teachers

__all__ = ["shrunk", "spread"]


def spread(data: dict[str, Any], *, inherit: bool = False) -> dict[str, Any]:
    """A recipe's mapping with its short forms written out; what does not look as expected stays as it is.

    `kd: 0.9` becomes `kd: {weight: 0.9}`, `scheme: offline` becomes `{name: offline}`, `metrics: [top5]`
    becomes `{top5: {}}`, `checkpoint: best` becomes `{take: best}`, `ema: 0.999` becomes `{decay: 0.999}`,
    `shard: teacher` becomes `[teacher]`, and `shard: both` names both. `cache: 8` becomes `{views: 8}`,
    `cache: auto` `{when: auto}`, and `cache: ./answers` `{folder: ./answers}`. `weighting: confidence`
    becomes `{name: confidence}`, and `weighting: [2, 1]` `{name: average, weights: [2, 1]}`.
    A term that is set to null is left out (so that an override can drop one).

    Args:
        inherit: also fill the teacher's and the control's `train` from the recipe's own, key by key, and the
            objective of a control that has a teacher. `optimizer` and `schedule` are taken whole or not at
            all, since their options belong together. And name several teachers; of a list of
            one, take that one.
    """
    result = dict(data)
    if isinstance(result.get("scheme"), str):
        result["scheme"] = {"name": result["scheme"]}
    if isinstance(result.get("metrics"), list) and all(isinstance(m, str) for m in result["metrics"]):
        result["metrics"] = {name: {} for name in result["metrics"]}
    if isinstance(result.get("track"), list) and all(isinstance(name, str) for name in result["track"]):
        result["track"] = {name: {} for name in result["track"]}
    elif isinstance(result.get("track"), dict):
        result["track"] = {name: {} if given is None else given for name, given in result["track"].items()}
    result = _trained(result)
    if "objective" in result:
        result["objective"] = _terms(result["objective"], drop=inherit)
    result = _staged(result, drop=inherit)
    if isinstance(result.get("variants"), dict):
        result["variants"] = {name: _variant(v, drop=inherit) for name, v in result["variants"].items()}
    if isinstance(result.get("chain"), list):
        result["chain"] = [spread(link) if isinstance(link, dict) else link for link in result["chain"]]
    if (
        isinstance(result.get("student"), dict) and "cache" in result["student"]
    ):  # it has none, as will be told
        result["student"] = {**result["student"], "cache": _cache(result["student"]["cache"])}
    result = spread_teachers(result, inherit=inherit)
    for owner in ("teacher", "control"):
        part = result.get(owner)
        if isinstance(part, list):
            result[owner] = [_owner(one, owner, result, inherit=inherit) for one in part]
        elif part is not None:
            result[owner] = _owner(part, owner, result, inherit=inherit)
    return result


def shrunk(data: dict[str, Any], small: bool, where: str) -> dict[str, Any]:
    """A recipe's mapping without its `small`, which is laid over it where that is asked for.

    The name ends in `-small` then, unless `small` gives another.

    Raises:
        InputError: `small` is no mapping, or there is none.
    """
    result = dict(data)
    settings = result.pop("small", None) or {}
    if not isinstance(settings, Mapping):
        raise InputError(f"{where}: small: must be a mapping {{key.sub: value}}, given {shown(settings)}.")
    if not small:
        return result
    if not settings:
        raise InputError(f"{where}: --small: this recipe has no small version (a mapping small: {{…}}).")
    if isinstance(result.get("name"), str):
        result["name"] += "-small"
    return lay_over(spread(result), settings, f"{where}: small")


def _trained(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a recipe with the short forms in its `train` written out."""
    train = part.get("train")
    if not isinstance(train, dict):
        return dict(part)
    train = dict(train)
    if isinstance(train.get("checkpoint"), str):
        train["checkpoint"] = {"take": train["checkpoint"]}
    if isinstance(train.get("shard"), str):
        train["shard"] = ["teacher", "student"] if train["shard"] == "both" else [train["shard"]]
    ema = train.get("ema")
    if isinstance(ema, bool):
        train["ema"] = {} if ema else None
    elif isinstance(ema, int | float):
        train["ema"] = {"decay": ema}
    return {**part, "train": train}


def _control(part: dict[str, Any], recipe: Mapping[str, Any], *, inherit: bool) -> dict[str, Any]:
    """A control with a teacher of its own learns from the recipe's objective, unless it has another."""
    part = _staged(part, drop=inherit)
    teacher = part.get("teacher")
    if not isinstance(teacher, dict):
        return part
    if "cache" in teacher:
        part["teacher"] = {**teacher, "cache": _cache(teacher["cache"])}
    if inherit and part.get("objective") is None:
        given = {key: recipe[key] for key in ("objective", "stages") if key in recipe}
        part = {**part, **given}
    return part


def _owner(part: Any, owner: str, recipe: dict[str, Any], *, inherit: bool) -> Any:
    """A teacher or the control with its short forms written out."""
    if not isinstance(part, dict):
        return part
    part = _trained(part)
    if "objective" in part:
        part["objective"] = _terms(part["objective"], drop=inherit)
    if owner == "control":
        part = _control(part, recipe, inherit=inherit)
    elif "cache" in part:
        part["cache"] = _cache(part["cache"])
    own, common = part.get("train"), recipe.get("train")
    if inherit and isinstance(own, dict) and isinstance(common, dict):
        part["train"] = {**common, **own}
    return part


def _cache(given: Any) -> Any:
    """A teacher's `cache`: a number of views, whether there is one, or where it lies."""
    if isinstance(given, bool):
        return {"when": "always" if given else "never"}
    if isinstance(given, str):
        return {"folder" if "/" in given or "\\" in given else "when": given}
    return {"views": given} if isinstance(given, int | float) else given


def _variant(variant: Any, *, drop: bool) -> Any:
    if not isinstance(variant, dict) or "objective" not in variant:
        return variant
    return _staged({**variant, "objective": _terms(variant["objective"], drop=drop)}, drop=drop)


def _staged(part: dict[str, Any], *, drop: bool) -> dict[str, Any]:
    """A part of a recipe with the terms of its stages written out."""
    if not isinstance(part.get("stages"), list):
        return part
    stages = [
        {**stage, "objective": _terms(stage["objective"], drop=drop)}
        if isinstance(stage, dict) and "objective" in stage
        else stage
        for stage in part["stages"]
    ]
    return {**part, "stages": stages}


def _terms(terms: Any, *, drop: bool) -> Any:
    if not isinstance(terms, dict):
        return terms
    return {
        name: {"weight": term} if isinstance(term, int | float) and not isinstance(term, bool) else term
        for name, term in terms.items()
        if not (drop and term is None)
    }
