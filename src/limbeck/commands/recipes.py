"""`limbeck init` and `limbeck methods`."""

import shlex
from pathlib import Path
from typing import Any

import typer

from limbeck.commands.common import table
from limbeck.errors import InputError, unknown
from limbeck.models.base import PREFIXES

__all__ = ["init", "methods"]


def init(
    teacher: str, data: str, student: str | None, weights: str | None, out: Path | None, as_json: bool
) -> dict[str, Any]:
    """Write a commented recipe; an existing file is never replaced."""
    from limbeck.data import sources
    from limbeck.template import template

    _check_model("--teacher", teacher)
    if student is not None:
        _check_model("--student", student)
    if ":" not in data and not Path(data).is_dir() and data not in sources.names():
        raise unknown("source", data, [*sources.names(), "a folder of images"], "--data")
    path = out or Path("recipe.yaml")
    text = template(teacher, data, student, weights=weights)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError as error:
        raise InputError(f"{path} exists already; choose another --out.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}.") from error
    if not as_json:
        name = shlex.quote(str(path))
        typer.echo(f"{path}: written. Look at it, then: limbeck check {name}, and limbeck distill {name}")
    return {"recipe": str(path)}


def _check_model(option: str, name: str) -> None:
    """Refuse what names no network; whether there is such a network is for `limbeck check`."""
    prefix, colon, rest = name.partition(":")
    if not (colon and rest):
        listed = ", ".join(f"{p}:NAME" for p in PREFIXES)
        raise InputError(f'{option}: "{name}" names no network. Allowed: {listed}.')
    if prefix not in PREFIXES:
        raise unknown("prefix", prefix, PREFIXES, option)


def methods(name: str | None, as_json: bool) -> dict[str, Any]:
    """All methods, or one's card."""
    from limbeck import methods as catalogue

    if name is not None:
        found = catalogue.card(catalogue.get(name))
        if not as_json:
            _card(found)
        return {"methods": [found]}
    cards = [catalogue.card(catalogue.get(n)) for n in catalogue.names()]
    if not as_json:
        rows = [
            [c["name"], ", ".join(c["aliases"]), c["kind"], c["doc"].strip().splitlines()[0]] for c in cards
        ]
        table(("method", "also", "kind", "what it is"), rows, words=4)
        typer.echo("limbeck methods NAME shows one's paper, options and use.")
    return {"methods": [{k: c[k] for k in ("name", "aliases", "kind", "paper", "options")} for c in cards]}


def _card(card: dict[str, Any]) -> None:
    """A method's card for people."""
    also = f" (also: {', '.join(card['aliases'])})" if card["aliases"] else ""
    typer.echo(f"{card['name']}{also}: {card['kind']}\n{card['paper']}\n\n{card['doc'].strip()}\n\nOptions")
    for name, option in card["options"].items():
        default = "required" if option["required"] else f"default {option['default']}"
        published = f", published {card['published'][name]}" if name in card["published"] else ""
        typer.echo(f"  {name}: {option['type']}, {default}{published}")
    if not card["options"]:
        typer.echo("  none")
    if card["unlike"]:
        typer.echo(f"\nBetween unlike networks: {card['unlike']}")
    weight = card["published"].get("weight", 1.0)
    values = {k: v for k, v in card["published"].items() if k in card["options"]}
    fields = "".join(f", {k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in values.items())
    layers = "" if card["pairs"] == "none" else ", layers: auto"
    own = f"    {card['name']}: {{weight: {weight}{fields}{layers}}}"
    beside = [f"    cross_entropy: {{weight: {card['beside']}}}"]
    lines = [own] if card["name"] == "cross_entropy" or not card["beside"] else [*beside, own]
    typer.echo("\n".join(["", "In a recipe", "  objective:", *lines]))
