"""What a training remembers besides the trainer's own state: sums of the epoch, history, time."""

import time
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import WorkError
from limbeck.training.checkpoint import States
from limbeck.training.runtime import Runtime
from limbeck.training.trainer import Step, Trainer

__all__ = ["Memory"]


class Memory:
    """What a training remembers besides the trainer's own state, and when it is saved.

    Args:
        states: where it is saved.
        runtime: the process that it belongs to.
        save_every: seconds between two states; 0 saves after each step.

    Attributes:
        history: one entry for each epoch done, in any form that JSON can hold.
        kept: the epochs whose weights are kept as the best so far, likewise.
        stage: the number of the stage that runs: that of the newest whole state, to begin with.
    """

    def __init__(self, states: States, runtime: Runtime, save_every: float) -> None:
        self.states = states
        self.history: list[dict[str, Any]] = []
        self.kept: list[dict[str, Any]] = []
        self._runtime = runtime
        self._save_every = save_every
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._before = 0.0
        self._found = states.load()
        self.stage = int(self._found.get("stage", 0)) if self._found else 0
        self._started = time.monotonic()
        self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent, earlier sessions of the same training included."""
        return self._before + time.monotonic() - self._started

    def count(self, step: Step) -> None:
        """Add a step's losses to those of its epoch."""
        for name, value in step.losses.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        self._steps += 1

    def means(self) -> dict[str, float]:
        """The mean losses of the epoch that ends here; starts the next."""
        runtime = self._runtime
        found = {n: float(runtime.mean(v)) / self._steps for n, v in self._sums.items()}
        self._sums, self._steps = {}, 0
        return found

    def due(self) -> bool:
        """Whether a state should be saved now; every process must decide alike."""
        late = time.monotonic() - self._saved >= self._save_every
        if self._runtime.world == 1:
            return late
        return bool(self._runtime.mean(torch.tensor(float(late), device=self._runtime.device)) > 0.5)

    def save(self, trainer: Trainer) -> None:
        """Write a state.

        Raises:
            WorkError: a loss or a parameter is not finite, or the disk is full; earlier states are kept.
        """
        runtime = self._runtime
        trainer.check()
        # All processes join in where each holds a part; else the first one does it alone.
        gathered = trainer.state() if trainer.sharded else None
        runtime.same_buffers(trainer.scheme)
        if trainer.ema is not None:
            runtime.same(trainer.ema.buffers())
        # Each process goes on from its own sums: [processes].
        sums = {name: runtime.gather(value.reshape(1)) for name, value in self._sums.items()}

        def write() -> None:
            self.states.save(
                trainer.saved_step,
                {
                    "stage": self.stage,
                    "trainer": trainer.state() if gathered is None else gathered,
                    "history": self.history,
                    "kept": self.kept,
                    "sums": sums,
                    "steps": self._steps,
                    "seconds": self.seconds,
                    "threads": torch.get_num_threads(),
                },
            )

        runtime.first(write)
        self._saved = time.monotonic()

    def restore(self, trainer: Trainer) -> bool:
        """Go on from the newest whole state; whether there is one that is not used yet.

        The trainer is that of the state's `stage`.

        Raises:
            InputError: the state belongs to another network.
            WorkError: it lies beyond the end of this training.
        """
        state, self._found = self._found, None
        if state is None:
            return False
        # Sums in another number of threads differ in the last bit.
        torch.set_num_threads(int(state["threads"]))
        trainer.load_state(state["trainer"])
        runtime = self._runtime
        self.history = list(state["history"])
        self.kept[:] = state["kept"]  # the list itself is shared
        self._sums = {
            n: (v[runtime.rank] if len(v) == runtime.world else v.mean()).to(runtime.device)
            for n, v in state["sums"].items()
        }
        self._steps = int(state["steps"])
        self._before = float(state["seconds"])
        if trainer.step > trainer.total_steps:
            raise WorkError(f"the saved state is of step {trainer.step}, beyond the end of this training.")
        return True
