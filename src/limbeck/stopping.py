"""Being asked to stop: Ctrl-C, or a polite kill, of one of several processes or of all."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch

from limbeck.progress import Display
from limbeck.training.runtime import Runtime

__all__ = ["Stop"]


class Stop:
    """Whether somebody asked the work to stop.

    Args:
        runtime: whose processes stop together.
        display: where it is said.
    """

    def __init__(self, runtime: Runtime, display: Display) -> None:
        self._runtime = runtime
        self._display = display
        self._stopped = False

    def asked(self) -> bool:
        """Whether any of the processes was asked; all must call this, and get the same answer."""
        if self._runtime.world == 1:
            return self._stopped
        flag = torch.tensor(float(self._stopped), device=self._runtime.device)
        return bool(self._runtime.mean(flag) > 0)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Ctrl-C and a polite kill end the work after the running step; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: Any) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            self._stopped = True
            self._display.say("stopping after this step; the state will be saved (again: stop at once)")

        before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
