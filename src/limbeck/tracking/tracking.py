"""The trackers of a run: each training is a tracked run of its own, which goes on when it is resumed.

What was sent is remembered in the run's folder. A resumed training repeats its epochs to the bit, so the
lines that a tracker has already are not sent again. A tracker that fails (no network, a full disk) is left
out from then on, with a warning: figures are in `metrics.jsonl` in any case.
"""

import contextlib
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import WorkError
from limbeck.progress import Display
from limbeck.tracking.kind import Kind, Place
from limbeck.tracking.kinds import KINDS, check
from limbeck.training.checkpoint import write_atomically

__all__ = ["Tracked", "Tracking"]

Flat = dict[str, Any]


class Tracking:
    """What trackers a run has.

    Args:
        wanted: the recipe's `track`: options by name.
        project: the run's name.
        folder: the run's folder.
        settings: the recipe as plain values.
        display: where warnings go.

    Raises:
        InputError: a tracker that cannot be had.
    """

    def __init__(
        self,
        wanted: Mapping[str, Mapping[str, Any]],
        project: str,
        folder: Path,
        settings: Mapping[str, Any],
        display: Display,
    ) -> None:
        check(wanted, folder / "track")
        self._wanted = wanted
        self._project = project
        self._folder = folder / "track"
        self._settings = flat(settings)
        self._display = display

    def open(self, role: str, seed: int) -> "Tracked":
        """The trackers of one training."""
        name = f"{role}-{seed}"
        return Tracked(self._wanted, self._project, name, self._folder, self._settings, self._display)


class Tracked:
    """The trackers of one training."""

    def __init__(
        self,
        wanted: Mapping[str, Mapping[str, Any]],
        project: str,
        name: str,
        folder: Path,
        settings: Flat,
        display: Display,
    ) -> None:
        self._display = display
        self._forgetful = False
        self._record = folder / f"{name}.json"
        self._known: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            self._known = json.loads(self._record.read_text())
        self._kinds: dict[str, Kind] = {}
        for tracker, options in wanted.items():
            new = tracker not in self._known
            before = self._known.setdefault(tracker, {"step": 0, "memory": {}})
            with self._forgiving(tracker):
                place = Place(project, name, folder / tracker)
                made = KINDS[tracker](place, options, before["memory"], None if new else before["step"])
                self._kinds[tracker] = made
                if made.notice:
                    display.say(f"warning: {made.notice}")
                remembered = made.memory()
                if not before["memory"] and not before["step"]:
                    made.tracker.store_init_configuration(settings)
                before["memory"] = remembered
        self._remember()

    def line(self, line: Mapping[str, Any]) -> None:
        """Send the figures of an epoch, as they stand in `metrics.jsonl`."""
        values = {
            name: value
            for name, value in flat(line).items()
            if name not in ("role", "seed", "step") and isinstance(value, int | float)
        }
        step = int(line["step"])
        self._each(step, lambda kind: kind.tracker.log(values, step=step))

    def finish(self, figures: Mapping[str, Any], pixels: np.ndarray | None, step: int) -> None:
        """Send the final figures and a picture of some samples, and close."""
        numbers = {
            f"final/{name}": value
            for name, value in flat(figures).items()
            if isinstance(value, int | float) and not name.startswith("per_class")
        }

        def send(kind: Kind) -> None:
            kind.tracker.log(numbers, step=step + 1)
            if pixels is not None:
                kind.picture(pixels, step + 1)

        self._each(step + 1, send)
        self.close()

    def close(self) -> None:
        """Let go of the trackers, so that what was sent is written."""
        while self._kinds:
            name, kind = self._kinds.popitem()
            with self._forgiving(name):
                kind.close()

    def _each(self, step: int, send: Callable[[Kind], None]) -> None:
        for name, kind in list(self._kinds.items()):
            if step <= self._known[name]["step"]:
                continue  # sent before the training was interrupted
            with self._forgiving(name):
                send(kind)
                self._known[name]["step"] = step
        self._remember()

    def _remember(self) -> None:
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._record, json.dumps(self._known))
        except (OSError, WorkError) as error:
            if not self._forgetful:
                self._forgetful = True
                self._display.say(f"warning: what trackers have got cannot be kept: {error}")

    @contextlib.contextmanager
    def _forgiving(self, name: str) -> Iterator[None]:
        """Leave a tracker out that fails; the training goes on."""
        quiet = [logging.getLogger(n) for n in ("wandb", "mlflow", "alembic")]
        before = [logger.level for logger in quiet]
        for logger in quiet:
            logger.setLevel(logging.ERROR)
        try:
            # Several of them greet on standard output, where with --json nothing else may stand.
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        except Exception as error:  # whatever another's service raises
            if (failed := self._kinds.pop(name, None)) is not None:
                with contextlib.suppress(Exception):
                    failed.close()  # the next training's must find nothing of it open
            text = " ".join(str(error).split())[:300]
            self._display.say(
                f"warning: the tracker {name} failed and is left out: {type(error).__name__}: {text}"
            )
        finally:
            for logger, level in zip(quiet, before, strict=True):
                logger.setLevel(level)


def flat(values: Mapping[str, Any], before: str = "") -> Flat:
    """Nested mappings with the keys joined by slashes; lists as text."""
    found: Flat = {}
    for name, value in values.items():
        key = f"{before}{name}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{key}/")
        elif isinstance(value, list | tuple):
            found[key] = json.dumps(value)
        else:
            found[key] = value
    return found
