"""Trainings of one run side by side, in processes of their own.

The trainings of a run (the control and the students of every seed) need nothing of each other, and small
networks gain little from more threads: two processes of one thread each are nearly twice as fast as one of
two. The run's own process keeps the folder and its lock. Each worker (`limbeck.worker`) reads the recipe from
the folder once, and then does one training after the other there, which resume as any other.
"""

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from limbeck.errors import InputError, WorkError
from limbeck.phase import Interrupted
from limbeck.progress import Display

__all__ = ["side_by_side"]

PAUSE = 0.1
"""Seconds between two looks at the workers."""

Task = tuple[str, int]


def side_by_side(
    folder: Path, tasks: Sequence[Task], jobs: int, display: Display, stop: Callable[[], bool]
) -> None:
    """Do trainings in processes of their own, at most `jobs` at a time.

    Args:
        folder: the run folder, claimed and locked by this process.
        tasks: role and seed of each training.
        jobs: how many at a time.
        display: where it is said what goes on; the workers write their lines to standard error.
        stop: asked all the time; True has all workers save and end.

    Raises:
        InputError, WorkError: a training failed; the others were stopped and are saved.
        Interrupted: `stop` said so; all is saved.
    """
    display.say(f"{len(tasks)} trainings, {min(jobs, len(tasks))} at a time")
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    workers = [_Worker(folder, waiting) for _ in range(min(jobs, len(tasks)))]
    try:
        while any(worker.busy for worker in workers):
            failed = next((worker.failed for worker in workers if worker.failed is not None), None)
            if failed is not None:
                raise failed
            if stop():
                raise Interrupted
            time.sleep(PAUSE)
    finally:
        for worker in workers:
            worker.end()
    for worker in workers:
        if worker.failed is not None:
            raise worker.failed


class _Worker:
    """One process, and the thread that hands it a training after the other.

    Attributes:
        failed: what a training of it failed with.
    """

    def __init__(self, folder: Path, waiting: "queue.SimpleQueue[Task]") -> None:
        self.failed: Exception | None = None
        self._ending = False
        self._waiting = waiting
        self._process = subprocess.Popen(
            [sys.executable, "-m", "limbeck.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C on the terminal is for this process, which hands it on; twice would end it unsaved.
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        return self._thread.is_alive()

    def _serve(self) -> None:
        while self.failed is None and not self._ending:
            try:
                role, seed = self._waiting.get_nowait()
            except queue.Empty:
                return
            self.failed = self._ask(role, seed)

    def _ask(self, role: str, seed: int) -> Exception | None:
        """Have one training done; what it failed with."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        title = f"{role}, seed {seed}"
        try:
            self._process.stdin.write(json.dumps([role, seed]) + "\n")
            self._process.stdin.flush()
            kind, message = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):  # it is gone, or its answer is cut off
            return WorkError(f"{title}: its process ended with code {self._process.wait()}.")
        if kind == "done":
            return None
        if kind == "stopped":
            return Interrupted()
        return (InputError if kind == "input" else WorkError)(f"{title}: {message}")

    def end(self) -> None:
        """Have the process save what it is at, and end."""
        self._ending = True
        if self.busy:
            self._process.terminate()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):  # an order that it did not take any more
                pipe.close()
        self._process.wait()  # the end of its input ends an idle one
