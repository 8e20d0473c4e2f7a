"""One network trained from its start, or from where a killed run left it, to its evaluation."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck import models, weights
from limbeck.data import Data
from limbeck.data.loader import Loader, evaluation_batches
from limbeck.data.plans import Plan
from limbeck.data.samples import Samples
from limbeck.errors import WorkError
from limbeck.evaluation.metrics import Evaluation, evaluate
from limbeck.journal import Journal
from limbeck.knowledge import Batch
from limbeck.models.run import notes
from limbeck.progress import Display
from limbeck.schemes import Offline
from limbeck.taps import Tapped
from limbeck.training.checkpoint import States, write_atomically
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Step, Trainer

__all__ = ["Interrupted", "Outcome", "Phase", "ask"]


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked the work to stop; all that was done is saved."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished training says.

    Attributes:
        evaluation: the final figures on the test set, as JSON.
        history: one entry an epoch: epoch, accuracy, loss.
        seconds: time spent training, evaluations between the epochs included.
        file: the weights.
    """

    evaluation: dict[str, Any]
    history: list[dict[str, Any]]
    seconds: float
    file: Path

    @property
    def best(self) -> float | None:
        """The best accuracy of any epoch, as the literature reports it."""
        found = [*(h["accuracy"] for h in self.history), self.evaluation["accuracy"]]
        return max((float(value) for value in found if value is not None), default=None)


def ask(
    network: Tapped, samples: Samples, runtime: Runtime, size: int, *, classes: int, **options: Any
) -> tuple[Evaluation, Tensor]:
    """Evaluate a network on a split, in eval mode, over all processes; its mode is restored."""
    training = network.training
    network.eval()
    runtime.same_buffers(network)

    def answer(batch: Batch) -> Tensor:
        with runtime.autocast():
            logits: Tensor = network(runtime.put(batch).input).logits
        return logits

    def join(value: Tensor) -> Tensor:
        return runtime.gather(value.to(runtime.device))

    try:
        return evaluate(
            answer,
            evaluation_batches(samples, size, rank=runtime.rank, world=runtime.world),
            classes=classes,
            gather=join if runtime.world > 1 else None,
            **options,
        )
    finally:
        network.train(training)


@dataclass
class Phase:
    """A training within a run folder.

    Attributes:
        role: teacher, control or student.
        seed: its seed.
        folder: where its weights and figures go.
        states: where its training state lies until it is done.
        journal: where its epochs are written.
        data: what it learns from and is tested on.
        runtime: where it computes.
        settings: how it is trained.
        batch_size: samples in one step.
        eval_batch_size: samples in one evaluation batch.
        save_every: seconds between two states; 0 saves after each step.
        workers: processes that read samples.
        display: where progress is shown.
        stop: asked after each step; True saves and stops.
    """

    role: str
    seed: int
    folder: Path
    states: Path
    journal: Journal
    data: Data
    runtime: Runtime
    settings: Training
    batch_size: int
    eval_batch_size: int
    display: Display
    save_every: float = 60.0
    workers: int = 0
    stop: Callable[[], bool] = field(default=lambda: False)

    @property
    def title(self) -> str:
        """How people are told of it."""
        return self.role if self.role == "teacher" else f"{self.role}, seed {self.seed}"

    def finished(self) -> Outcome | None:
        """What this training found, where it is done already."""
        file = self.folder / f"{self._name}.safetensors"
        record = self.folder / "evaluation.json"
        if not (file.exists() and record.exists()):
            return None
        found = json.loads(record.read_text())
        if self.runtime.main:
            States(self.states).clear()  # a kill between the last record and this leaves them
        return Outcome(found["evaluation"], found["history"], found["seconds"], file)

    @property
    def _name(self) -> str:
        return "teacher" if self.role == "teacher" else "student"

    def run(self, scheme: Offline, teacher_logits: Tensor | None = None) -> Outcome:
        """Train, evaluate and save; goes on from the newest state where there is one.

        Raises:
            Interrupted: `stop` said so; the state is saved.
            WorkError: a loss or a parameter is not finite, or the disk is full; earlier states are kept.
        """
        loader = self._loader()
        trainer = Trainer(scheme, self.settings, self.runtime, len(loader), self.seed)
        progress = _Progress(States(self.states), self)
        progress.restore(trainer)
        self.runtime.first(lambda: self.journal.rewind(self.role, self.seed, trainer.step))
        title, done = self.title, trainer.step
        with self.runtime.guard(), self.display.bar(title, trainer.total_steps, "steps", done=done) as bar:
            for step in trainer.fit(loader):
                progress.count(step)
                bar.advance(1, _figures(step.losses) if bar.due() else None)
                if step.last:
                    self._epoch(step, progress, scheme)
                stop = self.stop()
                if progress.due() or stop:
                    progress.save(trainer)
                if stop:
                    raise Interrupted
        return self._finish(scheme, progress, teacher_logits)

    def _loader(self) -> Loader:
        plan = Plan(self.seed, len(self.data.train), self.batch_size)
        return Loader(
            self.data.train,
            plan,
            rank=self.runtime.rank,
            world=self.runtime.world,
            parts=self.settings.accumulate,
            workers=self.workers,
        )

    def _epoch(self, step: Step, progress: "_Progress", scheme: Offline) -> None:
        """Evaluate at the end of an epoch and write its line."""
        found, _ = ask(
            scheme.student, self.data.test, self.runtime, self.eval_batch_size, classes=len(self.data.classes)
        )
        figures = found.to_json()
        held_out = self._validate(scheme)
        losses = progress.means()
        entry = {"epoch": step.epoch, "accuracy": figures["accuracy"], "loss": figures["loss"]}
        progress.history.append(entry)
        line = {
            "role": self.role,
            "seed": self.seed,
            "epoch": step.epoch,
            "step": step.number,
            "lr": step.lr,
            "losses": losses,
            "accuracy": figures["accuracy"],
            "test_loss": figures["loss"],
            **({} if held_out is None else {"validation_accuracy": held_out["accuracy"]}),
            "seconds": round(progress.seconds, 3),
        }
        self.runtime.first(lambda: self.journal.write(line))
        if not self._telling(step.epoch):
            return
        terms = "  ".join(f"{n} {v:.4g}" for n, v in losses.items())
        left = progress.seconds / step.epoch * (self.settings.epochs - step.epoch)
        self.display.say(
            f"{self.title}: epoch {step.epoch}/{self.settings.epochs}  {terms}  "
            f"accuracy {found.accuracy:.4f}  {progress.seconds:.0f} s, about {left:.0f} s left"
        )

    def _validate(self, scheme: Offline) -> dict[str, Any] | None:
        """Figures on the validation part, where the recipe splits one off: what may be chosen by."""
        if self.data.validation is None:
            return None
        classes = len(self.data.classes)
        return ask(scheme.student, self.data.validation, self.runtime, self.eval_batch_size, classes=classes)[
            0
        ].to_json()

    def _telling(self, epoch: int) -> bool:
        """Whether this epoch gets a line of its own: ten or twenty lines a training, however long it is."""
        every = max(1, self.settings.epochs // 10)
        return epoch % every == 0 or epoch == self.settings.epochs

    def _finish(self, scheme: Offline, progress: "_Progress", teacher_logits: Tensor | None) -> Outcome:
        found, _ = ask(
            scheme.student,
            self.data.test,
            self.runtime,
            self.eval_batch_size,
            classes=len(self.data.classes),
            teacher_logits=teacher_logits,
        )
        held_out = self._validate(scheme)
        figures = {**found.to_json(), "validation": None if held_out is None else held_out["accuracy"]}
        outcome = Outcome(
            figures, progress.history, progress.seconds, self.folder / f"{self._name}.safetensors"
        )
        self.runtime.first(lambda: self._save(scheme, outcome))
        self.runtime.first(progress.states.clear)
        return outcome

    def _save(self, scheme: Offline, outcome: Outcome) -> None:
        train = self.data.train
        shape = notes(classes=len(self.data.classes), channels=train.channels, size=train.size)
        weights.save(scheme.student.model, outcome.file, shape)
        record = {
            "role": self.role,
            "seed": self.seed,
            "evaluation": outcome.evaluation,
            "history": outcome.history,
            "seconds": outcome.seconds,
            "parameters": models.parameters(scheme.student.model),
        }
        # Written last: a phase with this file is done.
        write_atomically(self.folder / "evaluation.json", json.dumps(record, indent=1))


class _Progress:
    """What a training remembers besides the trainer's own state: sums of the epoch, history, time."""

    def __init__(self, states: States, phase: Phase) -> None:
        self.states = states
        self.history: list[dict[str, Any]] = []
        self._phase = phase
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._before = 0.0
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
        runtime = self._phase.runtime
        found = {n: float(runtime.mean(v)) / self._steps for n, v in self._sums.items()}
        self._sums, self._steps = {}, 0
        return found

    def due(self) -> bool:
        """Whether a state should be saved now; every process must decide alike."""
        late = time.monotonic() - self._saved >= self._phase.save_every
        if self._phase.runtime.world == 1:
            return late
        return bool(
            self._phase.runtime.mean(torch.tensor(float(late), device=self._phase.runtime.device)) > 0.5
        )

    def save(self, trainer: Trainer) -> None:
        """Write a state.

        Raises:
            WorkError: a loss or a parameter is not finite, or the disk is full; earlier states are kept.
        """
        runtime = self._phase.runtime
        trainer.check()
        runtime.same_buffers(trainer.scheme)
        # Each process goes on from its own sums: [processes].
        sums = {name: runtime.gather(value.reshape(1)) for name, value in self._sums.items()}

        def write() -> None:
            self.states.save(
                trainer.step,
                {
                    "trainer": trainer.state(),
                    "history": self.history,
                    "sums": sums,
                    "steps": self._steps,
                    "seconds": self.seconds,
                    "threads": torch.get_num_threads(),
                },
            )

        runtime.first(write)
        self._saved = time.monotonic()

    def restore(self, trainer: Trainer) -> None:
        """Go on from the newest whole state, where there is one."""
        state = self.states.load()
        if state is None:
            return
        # Sums in another number of threads differ in the last bit.
        torch.set_num_threads(int(state["threads"]))
        trainer.load_state(state["trainer"])
        runtime = self._phase.runtime
        self.history = list(state["history"])
        self._sums = {
            n: (v[runtime.rank] if len(v) == runtime.world else v.mean()).to(runtime.device)
            for n, v in state["sums"].items()
        }
        self._steps = int(state["steps"])
        self._before = float(state["seconds"])
        if trainer.step > trainer.total_steps:
            raise WorkError(f"the saved state is of step {trainer.step}, beyond the end of this training.")
        self._phase.display.say(f"{self._phase.title}: goes on from step {trainer.step}")


def _figures(losses: dict[str, Tensor]) -> dict[str, float]:
    found = {name: float(value) for name, value in losses.items()}
    return {n: v for n, v in found.items() if math.isfinite(v)}
