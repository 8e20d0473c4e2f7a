"""The trainings of one call of `limbeck.distill`: over the caller's own loader, without a run folder."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from limbeck.assembly import setup
from limbeck.build import PROBE_SAMPLES
from limbeck.calls import first_answer
from limbeck.errors import InputError
from limbeck.feeding import Feeding, cut
from limbeck.objective import Objective, Term
from limbeck.progress import Display
from limbeck.schemes import Offline, Scheme, Several
from limbeck.schemes.base import Kind
from limbeck.staging import spans
from limbeck.taps import Tapped
from limbeck.teacherless import Chosen
from limbeck.teachers import Ensemble, Fixed
from limbeck.training.ema import Ema
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

__all__ = ["Trainings"]


@dataclass(frozen=True, slots=True)
class Trainings:
    """What all trainings of one call have in common."""

    feed: Feeding
    settings: Training
    runtime: Runtime
    seed: int
    screen: Display

    def scheme(
        self, student: nn.Module, adapter: nn.Module | None, objective: Objective, teacher: Fixed | None
    ) -> Offline:
        """The student and its teacher, set up; see `offline`."""
        return self.offline(
            Tapped(student, objective.student_taps, adapter, who="student"), objective, teacher
        )

    def taught_by(self, chosen: Chosen, plain: Tapped, terms: Mapping[str, Term | float]) -> Kind:
        """A scheme without a teacher, set up.

        Raises:
            InputError: something does not fit.
        """
        first = self.feed.first()
        probe = cut(first, 0, PROBE_SAMPLES)
        training = plain.training
        plain.eval()
        answer = first_answer("student", plain, probe, lambda b: plain(b.input))
        plain.train(training)
        return chosen.scheme(
            plain,
            terms,
            probe,
            classes=int(answer.logits.shape[1]),
            epochs=self.settings.epochs,
            samples=len(self.feed) * len(first),
            seed=self.seed,
        )

    def offline(self, network: Tapped, objective: Objective, teacher: Fixed | None) -> Offline:
        """A network and what it learns from, set up.

        Raises:
            InputError: something does not fit.
        """
        spans(objective, self.settings)
        first = self.feed.first()
        samples = len(self.feed) * len(first)
        probe = cut(first, 0, PROBE_SAMPLES)
        classes = setup(network, objective, teacher, probe, samples, classes=0, seed=self.seed)
        if not any(p.requires_grad for p in network.parameters()):
            raise InputError("student: none of its parameters takes a gradient, so it cannot learn.")
        if isinstance(teacher, Ensemble):
            return Several(network, objective, teacher, classes)
        return Offline(network, objective, teacher)

    def train(self, title: str, scheme: Scheme) -> dict[str, float]:
        """One training from start to end; of several teachers, their mean weights in its last epoch."""
        weights: dict[str, float] = {}
        ema = None
        if self.settings.ema is not None:
            self.runtime.place(scheme)  # now, so that the average lies where the weights do
            ema = Ema(scheme.student, self.settings.ema, self.settings.epochs * len(self.feed))
        for number, (settings, span) in enumerate(spans(scheme.objective, self.settings)):
            scheme.enter(number)
            trainer = Trainer(scheme, settings, self.runtime, len(self.feed), self.seed, span, ema)
            weights = self._stage(f"{title}, {span.stage}" if span.stage else title, trainer)
        if ema is not None:
            ema.settle()
            self.runtime.same_buffers(scheme)
        return weights

    def _stage(self, title: str, trainer: Trainer) -> dict[str, float]:
        sums: dict[str, float] = {}
        epochs = trainer.total_steps // trainer.steps_per_epoch
        with self.screen.bar(title, trainer.total_steps - trainer.first_step, "steps") as bar:
            for step in trainer.fit(self.feed):
                due = bar.due()
                bar.advance(1, {n: float(v) for n, v in step.losses.items()} if due else None)
                if step.epoch == epochs:
                    for name in (n for n in step.losses if n.startswith("weight.")):
                        sums[name] = sums.get(name, 0.0) + float(step.losses[name])
                if step.last:
                    loss = float(step.losses["loss"])
                    self.screen.say(f"{title}: epoch {step.epoch}/{epochs}  loss {loss:.4g}")
        trainer.check()
        self.runtime.same_buffers(trainer.scheme)
        return {n.removeprefix("weight."): v / trainer.steps_per_epoch for n, v in sums.items()}
