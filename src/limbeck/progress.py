"""What a person sees while work goes on: bars on a terminal, one plain line an epoch elsewhere."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

__all__ = ["Bar", "Display", "Plain", "Silent", "Terminal", "display"]


class Bar(Protocol):
    """One long step."""

    def advance(self, amount: int, text: Mapping[str, float] | None = None) -> None:
        """Go on by `amount`; `text` names figures to show, such as the loss terms."""

    def due(self) -> bool:
        """Whether it is time to show figures again: reading them may wait for the device."""


class Display(Protocol):
    """Where messages and bars go; never standard output, which belongs to results."""

    def say(self, text: str) -> None:
        """One line."""

    def bar(self, title: str, total: int, unit: str, done: int = 0) -> Any:
        """A context manager that gives a `Bar`."""


class _Quiet:
    def advance(self, amount: int, text: Mapping[str, float] | None = None) -> None:
        return

    def due(self) -> bool:
        return False


class Silent:
    """Says nothing: for library use, and for all processes but the first."""

    def say(self, text: str) -> None:
        return

    @contextmanager
    def bar(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        yield _Quiet()


class Plain(Silent):
    """Lines on standard error, no bars: for logs and pipes."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


class _RichBar:
    def __init__(self, progress: Any, task: Any) -> None:
        self._progress, self._task, self._shown = progress, task, 0.0

    def advance(self, amount: int, text: Mapping[str, float] | None = None) -> None:
        fields: dict[str, Any] = {}
        if text is not None:
            self._shown = time.monotonic()
            fields["figures"] = "  ".join(f"{name} {value:.4g}" for name, value in text.items())
        self._progress.update(self._task, advance=amount, **fields)

    def due(self) -> bool:
        return time.monotonic() - self._shown > 0.25


class Terminal:
    """Bars with figures, rate and time left, by rich."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._live: Any = None

    def say(self, text: str) -> None:
        target = self._live.console if self._live is not None else self._console
        target.print(text, markup=False)

    @contextmanager
    def bar(self, title: str, total: int, unit: str, done: int = 0) -> Iterator[Bar]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn(unit),
            _rate(unit),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[figures]}", markup=False),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            outer, self._live = self._live, progress
            try:
                yield _RichBar(progress, progress.add_task(title, total=total, completed=done, figures=""))
            finally:
                self._live = outer


def _rate(unit: str) -> Any:
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.3g} {unit}/s")

    return Rate()


def display(quiet: bool = False) -> Display:
    """What fits: bars on a terminal, plain lines elsewhere, nothing when `quiet`."""
    if quiet:
        return Silent()
    return Terminal() if sys.stderr.isatty() else Plain()
