"""`limbeck init` and `limbeck methods`."""

from pathlib import Path
from typing import Any

import typer

from limbeck.commands.common import emit, table
from limbeck.errors import InputError

__all__ = ["init", "methods"]


def init(teacher: str, data: str, student: str | None, out: Path | None, as_json: bool) -> None:
    """Write a commented recipe; an existing file is never replaced."""
    from limbeck.template import template

    path = out or Path("recipe.yaml")
    text = template(teacher, data, student)
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError as error:
        raise InputError(f"{path} exists already; choose another --out.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}.") from error
    if as_json:
        emit({"recipe": str(path)})
    else:
        typer.echo(f"{path}: written. Look at it, then: limbeck check {path}, and limbeck distill {path}")


def methods(name: str | None, as_json: bool) -> None:
    """All methods, or one's card."""
    from limbeck import methods as catalogue

    if name is not None:
        found = catalogue.card(catalogue.get(name))
        if as_json:
            emit({"methods": [found]})
        else:
            _card(found)
        return
    cards = [catalogue.card(catalogue.get(n)) for n in catalogue.names()]
    if as_json:
        emit({"methods": [{k: c[k] for k in ("name", "aliases", "kind", "paper", "options")} for c in cards]})
    else:
        table(
            ("method", "also", "kind", "paper"),
            [[c["name"], ", ".join(c["aliases"]), c["kind"], c["paper"]] for c in cards],
        )


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
    weight = card["published"].get("weight", 1.0)
    values = {k: v for k, v in card["published"].items() if k in card["options"]}
    fields = "".join(f", {k}: {str(v).lower() if isinstance(v, bool) else v}" for k, v in values.items())
    layers = "" if card["pairs"] == "none" else ", layers: {layer2: layer2}"
    typer.echo(f"\nIn a recipe\n  objective:\n    {card['name']}: {{weight: {weight}{fields}{layers}}}")
