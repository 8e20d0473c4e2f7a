"""What a recipe with a chain would do: who teaches whom, by which terms, with which sizes."""

from collections.abc import Mapping
from typing import Any

from limbeck.commands.common import count
from limbeck.commands.examining import examine
from limbeck.recipe import GenerationsSpec, Link, Recipe, links_of

__all__ = ["examine_chain", "link_lines"]


def examine_chain(recipe: Recipe) -> dict[str, Any]:
    """What a recipe with a chain would do, as plain values; nothing is written.

    As `examine` of the last link, with the first link's teacher; and `links`, one entry for each.

    Raises:
        InputError: it cannot work.
    """
    assert recipe.chain is not None
    links = links_of(recipe)
    found = [examine(link.recipe, stands_in=link.taught_by is not None) for link in links]
    last = found[-1]
    told = (
        f"{link.name}: {text}" for link, one in zip(links, found, strict=True) for text in one["warnings"]
    )
    return {
        **{key: value for key, value in last.items() if key not in ("speed", "warnings")},
        "name": recipe.name,
        "teacher": found[0]["teacher"],
        "control": _control(links, found),
        "links": [_link(link, one) for link, one in zip(links, found, strict=True)],
        "ensemble": isinstance(recipe.chain, GenerationsSpec) and recipe.chain.ensemble,
        "seconds": round(sum(one["seconds"] for one in found), 1),
        "warnings": list(told),
    }


def _link(link: Link, found: Mapping[str, Any]) -> dict[str, Any]:
    teacher = found["teacher"]
    given = None if teacher is None else teacher["model"]
    kept = ("student", "stages", "terms", "control", "steps", "seconds")
    return {"name": link.name, "teacher": link.taught_by or given} | {key: found[key] for key in kept}


def _control(links: tuple[Link, ...], found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What the last student is held against: a training of its own, or one of the first link's."""
    if not links[0].direct:
        own: dict[str, Any] | None = found[-1]["control"]
        return None if own is None else {**own, "link": None}
    first = found[0]
    return {
        "teacher": None if first["teacher"] is None else first["teacher"]["model"],
        "terms": {name: term["weight"] for name, term in first["terms"].items()},
        "link": links[0].name,
    }


def link_lines(found: Mapping[str, Any]) -> list[str]:
    """The links of a chain and its control for people."""
    teacher = found["teacher"]
    first = ", trained first" if teacher and teacher["trained_first"] else ""
    lines = [
        f"teacher   {_sized(teacher)}{first}"
        if teacher
        else "teacher   none: the first link is plain training"
    ]
    for number, link in enumerate(found["links"], 1):
        lines.append(f"link {number:<5}{link['name']}: {_sized(link['student'])}")
        by = f"taught by {link['teacher']}" if link["teacher"] else "by labels alone"
        lines.append(f"{'':10}{by}: {'; then '.join([*map(_stage, link['stages']), _terms(link['terms'])])}")
        lines.append(f"{'':10}{link['steps']['total']} steps in all")
    lines.append(f"control   {_said_of_control(found['control'], found['links'][-1]['name'])}")
    if found["ensemble"]:
        lines.append("ensemble  the mean of all generations' probabilities")
    return lines


def _sized(network: Mapping[str, Any]) -> str:
    work = network["multiply_adds"]
    text = f"{network['model']}, {network['parameters']:,} parameters"
    return text + (f", {count(work)} multiply-adds" if work else "")


def _stage(stage: Mapping[str, Any]) -> str:
    plural = "" if stage["epochs"] == 1 else "s"
    return f"first {stage['name']} ({stage['epochs']} epoch{plural}): {_terms(stage['terms'])}"


def _terms(terms: Mapping[str, Any]) -> str:
    said = []
    for name, term in terms.items():
        layers = ", ".join(f"{s} ← {t}" for s, t in term["layers"].items())
        said.append(f"{name} {term['weight']:g}" + (f" ({layers})" if layers else ""))
    return ", ".join(said)


def _said_of_control(control: Mapping[str, Any] | None, last: str) -> str:
    if control is None:
        return "none"
    terms = ", ".join(f"{name} {weight:g}" for name, weight in control["terms"].items())
    by = f"taught by {control['teacher']}" if control["teacher"] else "by labels alone"
    if control["link"]:
        what = "the direct pair" if control["teacher"] else "plain training"
        return f"{control['link']}, which is {what}: {terms}"
    pair = "the direct pair: " if control["teacher"] else ""
    return f"{pair}the student of {last} {by}: {terms}"
