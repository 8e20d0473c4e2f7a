"""Short forms of a recipe written out, before it is checked: so an override can reach inside them."""

from typing import Any

__all__ = ["spread"]


def spread(data: dict[str, Any], *, inherit: bool = False) -> dict[str, Any]:
    """A recipe's mapping with its short forms written out; what does not look as expected stays as it is.

    `kd: 0.9` becomes `kd: {weight: 0.9}`, `scheme: offline` becomes `{name: offline}`. A term that is set to
    null is left out (so that an override can drop one).

    Args:
        inherit: also fill the teacher's and the control's `train` from the recipe's own, key by key.
            `optimizer` and `schedule` are taken whole or not at all, since their options belong together.
    """
    result = dict(data)
    if isinstance(result.get("scheme"), str):
        result["scheme"] = {"name": result["scheme"]}
    if "objective" in result:
        result["objective"] = _terms(result["objective"], drop=inherit)
    result = _staged(result, drop=inherit)
    if isinstance(result.get("variants"), dict):
        result["variants"] = {name: _variant(v, drop=inherit) for name, v in result["variants"].items()}
    for owner in ("teacher", "control"):
        part = result.get(owner)
        if not isinstance(part, dict):
            continue
        part = dict(part)
        if "objective" in part:
            part["objective"] = _terms(part["objective"], drop=inherit)
        own, common = part.get("train"), result.get("train")
        if inherit and isinstance(own, dict) and isinstance(common, dict):
            part["train"] = {**common, **own}
        result[owner] = part
    return result


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
