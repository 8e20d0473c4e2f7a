"""`metrics.jsonl`: one line for every epoch of every training of a run."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbeck.training.checkpoint import explain, write_atomically

__all__ = ["Journal"]


class Journal:
    """Appends lines; a resumed training first drops the lines that it will write again.

    Trainings in processes of their own may share one: each waits for its turn.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def _turn(self) -> Iterator[None]:
        from filelock import FileLock

        lock = self.path.parent / "state" / "journal.lock"
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(lock)
            held.acquire()
        except OSError as error:
            raise explain(error, self.path) from error
        try:
            yield
        finally:
            held.release()

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines; the torn end that a kill may leave is passed over."""
        if not self.path.exists():
            return []
        whole = []
        for line in self.path.read_text().splitlines():
            try:
                whole.append(json.loads(line))
            except ValueError:
                continue
        return whole

    def rewind(self, role: str, seed: int, step: int) -> None:
        """Forget what this training wrote after `step`."""
        with self._turn():
            kept = [
                line
                for line in self.lines()
                if (line.get("role"), line.get("seed")) != (role, seed) or line.get("step", 0) <= step
            ]
            if self.path.exists() or kept:
                write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, line: dict[str, Any]) -> None:
        """Add a line, and force it to the disk: the state that follows counts on it.

        Raises:
            WorkError: the disk is full, or the file cannot be written.
        """
        try:
            with self._turn(), self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise explain(error, self.path) from error
