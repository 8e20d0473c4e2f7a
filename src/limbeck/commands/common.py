"""What the commands share: one JSON object on standard output, or a table for people."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from limbeck.progress import Display, display

__all__ = ["emit", "figure", "milliseconds", "screen", "size", "table"]


def emit(value: dict[str, Any]) -> None:
    """The one JSON object."""
    typer.echo(json.dumps(value))


def screen() -> Display:
    """Where progress goes."""
    return display()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on standard output; the first column is text, the others are figures."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    # Where output goes to a file or a pipe, no line may be broken to fit a screen that is not there.
    console = console if console.is_terminal else Console(highlight=False, width=200)
    console.print(drawn)


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def milliseconds(value: float | None) -> str:
    """A latency for people."""
    return "" if value is None else f"{value:.3g} ms"


def figure(values: Any) -> str:
    """A metric over the seeds: mean ± standard deviation."""
    if values is None:
        return ""
    from limbeck.evaluation.statistics import mean_spread

    listed = [v for v in (values if isinstance(values, list) else [values]) if v is not None]
    if not listed:
        return ""
    mean, spread = mean_spread(listed)
    return f"{mean:.4f}" if spread is None else f"{mean:.4f} ± {spread:.4f}"
