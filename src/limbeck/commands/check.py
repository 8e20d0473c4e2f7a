"""`limbeck check`: build everything, run one small batch forward and back, and say what would happen."""

from pathlib import Path
from typing import Any

import typer

from limbeck.commands.both import tasks_lines
from limbeck.commands.common import count
from limbeck.commands.examining import examine
from limbeck.commands.hastening import speed_lines
from limbeck.commands.linked import examine_chain, link_lines
from limbeck.errors import InputError, WorkError
from limbeck.recipe import Recipe

__all__ = ["check", "examined"]


def check(recipe: Path, overrides: list[str], as_json: bool, small: bool = False) -> dict[str, Any]:
    """Print what a recipe would do. Whatever goes wrong here was caused by the recipe: exit code 2."""
    loaded = Recipe.load(recipe, overrides, small)
    try:
        found = examined(loaded)
    except InputError:
        raise
    except WorkError as error:
        raise InputError(str(error)) from error
    except Exception as error:  # networks and data of users may raise anything
        text = " ".join(str(error).split())[:500]
        raise InputError(f"{recipe}: cannot work: {type(error).__name__}: {text}") from error
    if not as_json:
        _show(found)
    return found


def examined(recipe: Recipe) -> dict[str, Any]:
    """What a recipe would do, chain or none, as plain values.

    Raises:
        InputError: it cannot work.
    """
    return examine(recipe) if recipe.chain is None else examine_chain(recipe)


def _show(found: dict[str, Any]) -> None:
    data = found["data"]
    some = "" if data["labelled"] == data["train"] else f" ({data['labelled']} with a label)"
    shape = " × ".join(map(str, data["shape"]))
    lines = [
        f"{found['name']}: {len(found['seeds'])} seed{'s' * (len(found['seeds']) > 1)}, on {found['device']}",
        f"data      {data['source']}: {data['train']} training samples{some}, {data['test']} test samples"
        + (f", {data['validation']} for validation" if data["validation"] else "")
        + f", {data['classes']} classes, {shape}",
    ]
    lines += link_lines(found) if "links" in found else _network_lines(found)
    steps = found["steps"]
    plural = "" if steps["per_epoch"] == 1 else "s"
    whole = "" if "links" in found else f", {steps['total']} in all"
    lines.append(f"training  {steps['per_epoch']} step{plural} an epoch{whole}")
    lines.append(f"time      {_duration(found['seconds'])} of training, without compiling and evaluating")
    lines += [f"speed     {text}" for text in (speed_lines(found["speed"]) if "speed" in found else ())]
    lines += [f"warning   {text}" for text in found["warnings"]]
    typer.echo("\n".join(lines))


def _network_lines(found: dict[str, Any]) -> list[str]:
    """Teacher and student, and what the student learns from."""
    lines = []
    several = found.get("teachers", {})
    lines += [f"teacher   {_network_line(network)} ({name})" for name, network in several.items()]
    if several:
        options = {key: value for key, value in found["weighting"].items() if key != "name"}
        told = "".join(f", {key} {value}" for key, value in options.items())
        lines.append(f"weighting {found['weighting']['name']}{told}")
    elif found["teacher"] is not None:
        lines.append(f"teacher   {_network_line(found['teacher'])}")
    elif found["scheme"]["name"] == "offline":
        lines.append("teacher   none: plain training")
    lines.append(f"student   {_network_line(found['student'])}")
    lines += _scheme_lines(found["scheme"])
    for stage in found["stages"]:
        what = "the student" if stage["trains"] == "student" else "the method's own layers"
        plural = "" if stage["epochs"] == 1 else "s"
        lines.append(f"stage     {stage['name']}: {stage['epochs']} epoch{plural}, trains {what}")
        lines += _term_lines(stage["terms"])
    lines += ["then"] * bool(found["stages"]) + _term_lines(found["terms"])
    own = found["control"]
    if own is not None and own["teacher"] is not None:
        terms = ", ".join(f"{name} {weight:g}" for name, weight in own["terms"].items())
        lines.append(f"control   taught by {own['teacher']}: {terms}")
    return lines


def _scheme_lines(scheme: dict[str, Any]) -> list[str]:
    """Who teaches whom; a fixed teacher and its student need no words."""
    if scheme["name"] == "offline":
        return []
    if "tasks" in scheme:
        return tasks_lines(scheme)
    lines = [f"{name:9} {count:,} parameters" for name, count in scheme["networks"].items()]
    lines.append(f"scheme    {scheme['name']}, {scheme['kind']}")
    for lesson in scheme["lessons"]:
        sources, terms = (", ".join(lesson[key]) for key in ("from", "terms"))
        lines.append(f"          {lesson['learner']} ← {sources}, by {terms}")
    return lines


def _network_line(network: dict[str, Any]) -> str:
    work, noise = network["multiply_adds"], network.get("label_noise")
    return (
        f"{network['model']}: {network['parameters']:,} parameters"
        + (f", {count(work)} multiply-adds" if work else "")
        + (", trained first" if network.get("trained_first") else "")
        + (f" with {noise:.0%} of its labels wrong" if noise else "")
    )


def _term_lines(terms: dict[str, Any]) -> list[str]:
    lines = []
    for name, term in terms.items():
        layers = ", ".join(f"{s} ← {t}" for s, t in term["layers"].items())
        first = term["first_value"]
        lines.append(
            f"term      {name}: weight {term['weight']:g}"
            + ("" if first is None else f", first value {first:.4g}")
            + (f", layers {layers}" if layers else "")
        )
    return lines


def _duration(seconds: float) -> str:
    if seconds < 120:
        return "less than a second" if seconds < 1 else f"about {seconds:.0f} seconds"
    return f"about {seconds / 60:.0f} minutes" if seconds < 7200 else f"about {seconds / 3600:.1f} hours"
