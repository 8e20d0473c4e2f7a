"""What the commands share: figures and tables for people."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from limbeck import models
from limbeck.errors import InputError, WorkError
from limbeck.progress import Display, display

__all__ = ["build", "count", "figure", "foreign", "milliseconds", "screen", "size", "table"]


def build(name: str, **arguments: Any) -> Any:
    """The network that a word of the command line names; a folder's name alone is a run's.

    Raises:
        InputError: as `limbeck.models.build`, which takes the other arguments.
    """
    if ":" not in name and Path(name).is_dir():
        name = f"run:{name}"
    elif ":" not in name and ("/" in name or Path(name).exists()):
        raise InputError(f'"{name}" is no run folder, no .onnx file, and no model such as cifar:resnet20.')
    try:
        return models.build(name, where="model", beside=None, **arguments)
    except InputError as error:
        # Here the model is the word itself, not a key of that name in a part of a recipe.
        raise InputError(str(error).replace("model.model", "model", 1)) from error


@contextmanager
def foreign(name: str) -> Iterator[None]:
    """Run somebody's network: whatever it raises is told in one line, as bad input.

    Args:
        name: what the network is called on the command line.
    """
    try:
        yield
    except (InputError, WorkError):
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InputError(f"{name} cannot take these images: {type(error).__name__}: {text}") from error


def screen() -> Display:
    """Where progress goes."""
    return display()


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> None:
    """A table on standard output; the first `words` columns are text, the others are figures."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        drawn.add_column(heading, justify="right" if number >= words else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    # Where output goes to a file or a pipe, no line may be broken to fit a screen that is not there.
    console = console if console.is_terminal else Console(highlight=False, width=200)
    with console.capture() as captured:
        console.print(drawn)
    lines = (line.rstrip() for line in captured.get().splitlines())
    typer.echo("\n".join(line for line in lines if line))


def count(value: float | None) -> str:
    """A number of operations for people."""
    if value is None:
        return ""
    for unit in ("", " k", " M"):
        if value < 999.5:
            return f"{value:.3g}{unit}"
        value /= 1000
    return f"{value:,.3g} G" if value < 1000 else f"{value:,.0f} G"


def size(count: float | None) -> str:
    """Bytes for people."""
    if count is None:
        return ""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
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
