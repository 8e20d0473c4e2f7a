"""One network trained from its start, or from where a killed run left it, to its evaluation."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck import models, weights
from limbeck.composing import notes_of
from limbeck.data import Data
from limbeck.data.loader import Loader, evaluation_batches
from limbeck.data.plans import Plan
from limbeck.data.samples import Samples
from limbeck.errors import InputError
from limbeck.evaluation.metrics import Evaluation, evaluate
from limbeck.journal import Journal
from limbeck.knowledge import Batch
from limbeck.models.run import notes
from limbeck.progress import Display
from limbeck.schemes import Offline, Scheme
from limbeck.staging import spans
from limbeck.taps import Tapped
from limbeck.training.checkpoint import States, write_atomically
from limbeck.training.memory import Memory
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
    network: Tapped,
    samples: Samples,
    runtime: Runtime,
    size: int,
    *,
    classes: int,
    workers: int = 0,
    **options: Any,
) -> tuple[Evaluation, Tensor]:
    """Evaluate a network on a split, in eval mode, over all processes; its mode is restored.

    Args:
        network: what is evaluated.
        samples: the split.
        runtime: where; its precision is that of the training, so autocast is on where that has it.
        size: samples in one batch.
        classes: number of classes.
        workers: processes that read samples.
        options: further arguments of `limbeck.evaluation.metrics.evaluate`.

    Returns:
        The figures, and the logits [N, C].
    """
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
            evaluation_batches(samples, size, rank=runtime.rank, world=runtime.world, workers=workers),
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
        memory = Memory(States(self.states), self.runtime, self.save_every)
        stages = spans(scheme.objective, self.settings)
        if memory.stage >= len(stages):
            raise InputError(f"{self.states}: the state is of a training with more stages.")
        with self.runtime.guard():
            for number in range(memory.stage, len(stages)):
                memory.stage = number
                scheme.objective.enter(number)
                settings, span = stages[number]
                trainer = Trainer(scheme, settings, self.runtime, len(loader), self.seed, span)
                self._stage(trainer, memory, loader)
                # Statistics of layers that stay as they are from here on must not differ between processes.
                self.runtime.same_buffers(scheme)
        return self._finish(scheme, memory, teacher_logits)

    def _stage(self, trainer: Trainer, memory: Memory, loader: Loader) -> None:
        """Train to the end of a stage; a training without stages is one."""
        title = f"{self.title}, {trainer.span.stage}" if trainer.span.stage else self.title
        if memory.restore(trainer):
            self.display.say(f"{title}: goes on from step {trainer.step}")
        self.runtime.first(lambda: self.journal.rewind(self.role, self.seed, trainer.saved_step))
        first = trainer.first_step
        steps, done = trainer.total_steps - first, trainer.step - first
        with self.display.bar(title, steps, "steps", done=done) as bar:
            for step in trainer.fit(loader):
                memory.count(step)
                bar.advance(1, _figures(step.losses) if bar.due() else None)
                if step.last:
                    self._epoch(step, memory, trainer, title)
                stop = self.stop()
                if memory.due() or stop:
                    memory.save(trainer)
                if stop:
                    raise Interrupted

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

    def _epoch(self, step: Step, memory: Memory, trainer: Trainer, title: str) -> None:
        """Evaluate at the end of an epoch and write its line."""
        losses, span = memory.means(), trainer.span
        line: dict[str, Any] = {
            "role": self.role,
            "seed": self.seed,
            **(
                {"stage": span.stage, "trains": "student" if span.student else "layers"} if span.stage else {}
            ),
            "epoch": step.epoch,
            "step": trainer.saved_step,
            "lr": step.lr,
            "losses": losses,
        }
        said = "  ".join(f"{n} {v:.4g}" for n, v in losses.items())
        if span.student:
            figures = self._ask(trainer.scheme, self.data.test).to_json()
            held_out = self._validate(trainer.scheme)
            entry = {"epoch": step.epoch, "accuracy": figures["accuracy"], "loss": figures["loss"]}
            memory.history.append(entry)
            line |= {"accuracy": figures["accuracy"], "test_loss": figures["loss"]}
            line |= {} if held_out is None else {"validation_accuracy": held_out["accuracy"]}
            said += f"  accuracy {figures['accuracy']:.4f}"
        line["seconds"] = round(memory.seconds, 3)
        self.runtime.first(lambda: self.journal.write(line))
        epochs = trainer.total_steps // trainer.steps_per_epoch
        if self._telling(step.epoch, epochs):
            done = trainer.saved_step
            left = memory.seconds / done * (trainer.total_steps - trainer.step)
            self.display.say(
                f"{title}: epoch {step.epoch}/{epochs}  {said}  {memory.seconds:.0f} s, "
                f"about {left:.0f} s left"
            )

    def _validate(self, scheme: Scheme) -> dict[str, Any] | None:
        """Figures on the validation part, where the recipe splits one off: what may be chosen by."""
        if self.data.validation is None:
            return None
        return self._ask(scheme, self.data.validation).to_json()

    def _ask(self, scheme: Scheme, samples: Samples, **options: Any) -> Evaluation:
        return ask(
            scheme.student,
            samples,
            self.runtime,
            self.eval_batch_size,
            classes=len(self.data.classes),
            workers=self.workers,
            **options,
        )[0]

    @staticmethod
    def _telling(epoch: int, epochs: int) -> bool:
        """Whether this epoch gets a line of its own: ten or twenty lines a training, however long it is."""
        every = max(1, epochs // 10)
        return epoch % every == 0 or epoch == epochs

    def _finish(self, scheme: Offline, memory: Memory, teacher_logits: Tensor | None) -> Outcome:
        found = self._ask(scheme, self.data.test, teacher_logits=teacher_logits)
        held_out = self._validate(scheme)
        figures = {**found.to_json(), "validation": None if held_out is None else held_out["accuracy"]}
        outcome = Outcome(figures, memory.history, memory.seconds, self.folder / f"{self._name}.safetensors")
        self.runtime.first(lambda: self._save(scheme, outcome))
        self.runtime.first(memory.states.clear)
        return outcome

    def _save(self, scheme: Offline, outcome: Outcome) -> None:
        train = self.data.train
        student = scheme.student.model
        shape = notes(classes=len(self.data.classes), channels=train.channels, size=train.size)
        composed = {} if scheme.objective.reused is None else notes_of(student)
        weights.save(student, outcome.file, {**shape, **composed})
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


def _figures(losses: dict[str, Tensor]) -> dict[str, float]:
    found = {name: float(value) for name, value in losses.items()}
    return {n: v for n, v in found.items() if math.isfinite(v)}
