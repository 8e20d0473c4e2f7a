"""One network trained from its start, or from where a killed run left it, to its evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck import models, weights
from limbeck.asking import Asking
from limbeck.choosing import Choosing
from limbeck.composing import notes_of
from limbeck.data import Data
from limbeck.data.loader import Loader
from limbeck.data.mixing import Mix
from limbeck.data.plans import Plan
from limbeck.data.samples import Samples
from limbeck.errors import InputError
from limbeck.evaluation.figures import Figures
from limbeck.evaluation.metrics import Evaluation
from limbeck.journal import Journal
from limbeck.models.run import notes
from limbeck.outcome import Outcome, epoch_figures, epoch_line, finite, worth_a_line
from limbeck.picturing import pictured
from limbeck.progress import Display
from limbeck.runfolder import teaches
from limbeck.schemes import Scheme
from limbeck.staging import spans
from limbeck.tracking import Tracked
from limbeck.training.ahead import batches_ahead
from limbeck.training.checkpoint import States
from limbeck.training.ema import Ema
from limbeck.training.memory import Memory
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Checkpoint, Training
from limbeck.training.sharding import opened, whole_state
from limbeck.training.trainer import Step, Trainer

__all__ = ["Interrupted", "Phase"]


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """Somebody asked the work to stop; all that was done is saved."""


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
        repeats: how often each sample comes in a row, each time as another view.
        mix: how the samples of a batch are mixed; None: not at all.
        period: passes after which the views come again; None: never.
        ahead: how many batches a teacher is asked about at a time; None: by the device.
        save_every: seconds between two states; 0 saves after each step.
        workers: processes that read samples.
        checkpoint: which weights are taken in the end.
        figures: further figures of every evaluation.
        track: opens the trackers of this training; None where there are none.
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
    repeats: int = 1
    mix: Mix | None = None
    period: int | None = None
    ahead: int | None = None
    save_every: float = 60.0
    workers: int = 0
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    figures: Figures | None = None
    track: Callable[[], Tracked] | None = None
    stop: Callable[[], bool] = field(default=lambda: False)
    _tracked: Tracked | None = field(default=None, init=False)

    @property
    def title(self) -> str:
        """How people are told of it."""
        return self.role if teaches(self.role) else f"{self.role}, seed {self.seed}"

    def finished(self) -> Outcome | None:
        """What this training found, where it is done already."""
        found = Outcome.read(self._file)
        if found is not None and self.runtime.main:
            States(self.states).clear()  # a kill between the last record and this leaves them
        return found

    @property
    def _file(self) -> Path:
        """The weights in the end."""
        return self.folder / f"{'teacher' if teaches(self.role) else 'student'}.safetensors"

    def run(self, scheme: Scheme, teacher_logits: Tensor | None = None) -> Outcome:
        """Train, evaluate and save; goes on from the newest state where there is one.

        Raises:
            Interrupted: `stop` said so; the state is saved.
            WorkError: a loss or a parameter is not finite, or the disk is full; earlier states are kept.
        """
        if self.track is not None and self.runtime.main:
            self._tracked = self.track()
        try:
            return self._run(scheme, teacher_logits)
        finally:
            if self._tracked is not None:
                self._tracked.close()

    def _run(self, scheme: Scheme, teacher_logits: Tensor | None) -> Outcome:
        loader = self._loader()
        memory = Memory(States(self.states), self.runtime, self.save_every)
        choosing = self._choosing(memory)
        stages = spans(scheme.objective, self.settings)
        if memory.stage >= len(stages):
            raise InputError(f"{self.states}: the state is of a training with more stages.")
        with self.runtime.guard():
            ema = self._ema(scheme, len(loader))
            for number in range(memory.stage, len(stages)):
                memory.stage = number
                scheme.enter(number)
                settings, span = stages[number]
                size = self.batch_size // (self.runtime.world * settings.accumulate)
                ahead = batches_ahead(self.ahead, size, self.runtime)
                trainer = Trainer(scheme, settings, self.runtime, len(loader), self.seed, span, ema, ahead)
                self._stage(trainer, memory, loader, choosing)
                # Statistics of layers that stay as they are from here on must not differ between processes.
                self.runtime.same_buffers(scheme)
            if ema is not None:
                ema.settle()
            return self._finish(scheme, memory, choosing, teacher_logits, trainer.saved_step)

    def _show(self, scheme: Scheme, outcome: Outcome, teacher_logits: Tensor | None, step: int) -> None:
        """Send the final figures to the trackers, and a picture of some samples."""
        if self.track is None:
            return
        with opened(scheme):
            pixels = pictured(scheme.student, self.data, self.runtime, teacher_logits)
        if self._tracked is not None:
            self._tracked.finish(outcome.evaluation, pixels, step)

    def _ema(self, scheme: Scheme, steps: int) -> Ema | None:
        """The average of the student's weights, over all stages."""
        if self.settings.ema is None:
            return None
        scheme.place(self.runtime)  # now, so that the average lies where the weights do
        return Ema(scheme.student, self.settings.ema, self.settings.epochs * steps)

    def _choosing(self, memory: Memory) -> Choosing | None:
        """The choice of an epoch by the validation part, where there is one."""
        if self.data.validation is None:
            return None
        rising = (self.figures or Figures({}, len(self.data.classes))).rising[self.checkpoint.watch]
        if self.checkpoint.mode is not None:
            rising = self.checkpoint.mode == "max"
        return Choosing(self.checkpoint, rising, self.states, self.folder, memory.kept, self.runtime)

    def _stage(self, trainer: Trainer, memory: Memory, loader: Loader, choosing: Choosing | None) -> None:
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
                bar.advance(1, finite(step.losses) if bar.due() else None)
                if step.last:
                    self._epoch(step, memory, trainer, choosing, title)
                stop = self.stop()
                if memory.due() or stop:
                    memory.save(trainer)
                    if choosing is not None:
                        choosing.tidy()
                if stop:
                    raise Interrupted

    def _loader(self) -> Loader:
        plan = Plan(
            self.seed,
            len(self.data.train),
            self.batch_size,
            repeats=self.repeats,
            period=self.period,
            fixed=self.mix is not None or self.repeats > 1,
        )
        return Loader(
            self.data.train,
            plan,
            rank=self.runtime.rank,
            world=self.runtime.world,
            parts=self.settings.accumulate,
            workers=self.workers,
            mix=self.mix,
            device=self.runtime.device if self.runtime.device.type == "cuda" else None,
            channels_last=self.runtime.channels_last,
        )

    def _epoch(
        self, step: Step, memory: Memory, trainer: Trainer, choosing: Choosing | None, title: str
    ) -> None:
        """Evaluate at the end of an epoch and write its line."""
        losses, span = memory.means(), trainer.span
        line = epoch_line(self.role, self.seed, span, step, trainer.saved_step, losses)
        said = "  ".join(f"{n} {v:.4g}" for n, v in losses.items())
        if span.student:
            with trainer.averaged():
                found = self._ask(trainer.scheme, self.data.test)
                held_out = self._validate(trainer.scheme)
                if choosing is not None and held_out is not None and not span.stage:
                    value = held_out.figure(self.checkpoint.watch)
                    choosing.offer(step.epoch, value, trainer.scheme.student.model)
            memory.history.append(
                {"epoch": step.epoch, "accuracy": found.figure("accuracy"), "loss": found.figure("loss")}
            )
            line |= epoch_figures(found, held_out)
            said += f"  accuracy {found.accuracy:.4f}"
        line["seconds"] = round(memory.seconds, 3)
        self.runtime.first(lambda: self.journal.write(line))
        if self._tracked is not None:
            self._tracked.line(line)
        epochs = trainer.total_steps // trainer.steps_per_epoch
        if worth_a_line(step.epoch, epochs):
            done = trainer.saved_step
            left = memory.seconds / done * (trainer.total_steps - trainer.step)
            self.display.say(
                f"{title}: epoch {step.epoch}/{epochs}  {said}  {memory.seconds:.0f} s, "
                f"about {left:.0f} s left"
            )

    def _validate(self, scheme: Scheme) -> Evaluation | None:
        """Figures on the validation part, where the recipe splits one off: what may be chosen by."""
        return None if self.data.validation is None else self._ask(scheme, self.data.validation)

    @property
    def _asking(self) -> Asking:
        return Asking(self.data, self.runtime, self.eval_batch_size, self.workers, self.figures)

    def _ask(self, scheme: Scheme, samples: Samples, **options: Any) -> Evaluation:
        return self._asking.student(scheme, samples, **options)

    def _finish(
        self,
        scheme: Scheme,
        memory: Memory,
        choosing: Choosing | None,
        teacher_logits: Tensor | None,
        step: int,
    ) -> Outcome:
        network, held_out = scheme.student.model, self.data.validation

        def ask_test() -> Evaluation:
            return self._ask(scheme, self.data.test, teacher_logits=teacher_logits)

        if choosing is None or held_out is None:
            figures = {**ask_test().to_json(), "validation": None}
        else:
            found, valid, chosen = choosing.conclude(
                network, self.settings.epochs, lambda: (ask_test(), self._ask(scheme, held_out))
            )
            figures = {**found.to_json(), "validation": valid.figure("accuracy"), **chosen}
        others = {name: self._asking.other(scheme, one) for name, one in scheme.further().items()}
        if others:
            figures["others"] = {scheme.others: others}
        outcome = Outcome(figures, memory.history, memory.seconds, self._file)
        # Before the training counts as done: a kill in between must not lose it.
        self._show(scheme, outcome, teacher_logits, step)
        state = whole_state(network, keep=self.runtime.main)
        self.runtime.first(lambda: self._save(scheme, state, outcome))
        self.runtime.first(memory.states.clear)
        return outcome

    def _save(self, scheme: Scheme, state: Mapping[str, Tensor], outcome: Outcome) -> None:
        train = self.data.train
        student = scheme.student.model
        shape = notes(classes=len(self.data.classes), channels=train.channels, size=train.size)
        for name, other in scheme.kept().items():
            weights.save(other.state_dict(), self.folder / f"{name}.safetensors", shape)
        weights.save(state, outcome.file, {**shape, **(notes_of(student) if scheme.composed else {})})
        # Written last: a phase with this record is done.
        outcome.write(role=self.role, seed=self.seed, parameters=models.parameters(student))
