"""Distilling from Python, with plain modules and plain data loaders: `limbeck.distill`."""

import contextlib
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.assembly import setup
from limbeck.build import PROBE_SAMPLES
from limbeck.composing import compose
from limbeck.errors import InputError
from limbeck.evaluation.metrics import Evaluation, score
from limbeck.feeding import Feeding, cut
from limbeck.inputs import InputAdapter
from limbeck.knowledge import UNLABELLED, Batch, as_batch
from limbeck.objective import Objective, Term
from limbeck.pairing import settle_terms
from limbeck.progress import Display, Silent, display
from limbeck.schemes import Offline
from limbeck.staging import Stage, joined, spans, with_first_stages
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.ema import Averaging, Ema
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

__all__ = ["Distilled", "Feeding", "distill"]


@dataclass(frozen=True, slots=True)
class Distilled:
    """What `distill` gives.

    Attributes:
        student: the plain module, in eval mode, trained in place; for SimKD the composite around it.
        evaluation: its figures on the validation loader, agreement with the teacher included.
        teacher: the teacher's figures; None where it answers other classes than the student.
        control: the figures of the same student trained without the teacher; None where not asked for, or
            where the objective has no term that looks at labels.
        gain: accuracy of the student minus the control's; one seed, so it has no interval.
    """

    student: nn.Module
    evaluation: Evaluation | None
    teacher: Evaluation | None
    control: Evaluation | None
    gain: float | None


def distill(
    teacher: nn.Module | None,
    student: nn.Module,
    train_loader: Iterable[Any],
    valid_loader: Iterable[Any] | None = None,
    *,
    objective: Mapping[str, Term | float] | None = None,
    epochs: int = 30,
    optimizer: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    stages: Sequence[Stage] | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    decay_bias_and_norm: bool = True,
    ema: Averaging | None = None,
    control: bool = True,
    teacher_adapter: InputAdapter | nn.Module | None = None,
    student_adapter: InputAdapter | nn.Module | None = None,
    device: str = "auto",
    precision: str = "fp32",
    compile: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Distilled:
    """Train `student` in place to stand in for `teacher`.

    Both networks end up on the runtime's device. Whatever happens, no hook stays on either, and the teacher
    gets its modes back (training or eval, which parameters take a gradient).

    Args:
        teacher: answers logits [B, C]; frozen in eval mode and unchanged, BatchNorm statistics included.
        student: answers logits [B, C].
        train_loader: yields `(input, target)`; targets are class indices, -1 where not known.
        valid_loader: for the figures; None gives none.
        objective: terms by name; by default .1 cross-entropy and .9 kd at temperature 4.
        epochs: passes over `train_loader`, those of the student's stages included.
        optimizer: `{"name": "sgd", "lr": .05, "momentum": .9, "weight_decay": 5e-4}` by default.
        schedule: `{"name": "cosine"}` by default.
        stages: what comes before the objective, each with terms of its own; None: the stages that the papers
            of the objective's methods put there, if any.
        accumulate: into how many equal parts each batch is split.
        clip: largest norm of the gradient, above 0; None: it is not clipped.
        decay_bias_and_norm: whether weight decay also shrinks biases and the weights of norm layers.
        ema: how the student's weights are averaged over the steps (`limbeck.Averaging`); the average is what
            the student has in the end. None: it is not.
        control: train a copy of the student without the teacher first, for comparison.
        teacher_adapter, student_adapter: what stands between the loader's input and each network.
        device, precision, compile: see `limbeck.training.runtime.Runtime`.
        seed: of dropout, of the methods' own layers, and of the order of a shuffling loader.
        progress: show progress on standard error.

    Returns:
        The student and its figures.

    Raises:
        InputError: something that was given does not fit.
        WorkError: a loss is not finite any more.
    """
    if objective is None:
        objective = {"cross_entropy": 0.1, "kd": Term(weight=0.9, temperature=4.0)}
    _check_apart(teacher, student)
    feed = Feeding(train_loader, accumulate, seed)
    terms, ahead = with_first_stages(objective, epochs) if stages is None else (dict(objective), list(stages))
    everything = [terms, *(stage.objective for stage in ahead)]
    if any(isinstance(term, Term) and term.auto for part in everything for term in part.values()):
        whole = Tapped(student, (), student_adapter, who="student")
        given = None if teacher is None else Tapped(teacher, (), teacher_adapter, who="teacher")
        probe = cut(feed.first(), 0, PROBE_SAMPLES)
        terms = settle_terms(terms, whole, given, probe)
        ahead = [replace(s, objective=settle_terms(s.objective, whole, given, probe)) for s in ahead]
    built = joined(terms, ahead)
    settings = Training(
        epochs=epochs,
        optimizer=optimizer or {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        schedule=schedule or {"name": "cosine"},
        accumulate=accumulate,
        clip=clip,
        decay_bias_and_norm=decay_bias_and_norm,
        ema=ema,
    )
    runtime = Runtime(device, precision, compile)
    work = _Work(feed, settings, runtime, seed, display() if progress else Silent())
    with contextlib.ExitStack() as after:
        after.enter_context(runtime.guard())
        master = alone = None
        if teacher is not None:
            master = Frozen(Tapped(teacher, built.teacher_taps, teacher_adapter, who="teacher"))
            after.callback(master.close)
        label_terms = built.label_terms()
        labels_only = None
        if control and built.needs_teacher and label_terms:
            # The adapter may learn too; the control must not teach it to the student.
            shadow, adapter = copy.deepcopy((student, student_adapter))
            labels_only = Objective(label_terms)
            alone = Tapped(shadow, labels_only.student_taps, adapter, who="control")
        elif control and built.needs_teacher:
            work.screen.say("no control: no term of the objective looks at labels")
        if built.reused is not None and master is not None:
            plain = Tapped(student, (), student_adapter, who="student")
            student = compose(plain, built, master, cut(feed.first(), 0, PROBE_SAMPLES), seed)
        network = Tapped(student, built.student_taps, student_adapter, who="student")
        after.callback(network.close)
        # All is set up before anything is trained, so that what cannot work is told at once.
        scheme = work.scheme(network, built, master)
        if labels_only is not None and alone is not None:
            work.train("control", work.scheme(alone, labels_only, None))
        work.train("student", scheme)
        student.eval()
        found = _figures(network, master, alone, valid_loader, runtime)
    gain = (
        found["student"].accuracy - found["control"].accuracy
        if found["student"] and found["control"]
        else None
    )
    return Distilled(student, found["student"], found["teacher"], found["control"], gain)


def _check_apart(teacher: nn.Module | None, student: nn.Module) -> None:
    """What both hold would be frozen with the teacher, and change with the student."""
    if teacher is None:
        return
    theirs = {id(t) for t in (*teacher.parameters(), *teacher.buffers())}
    shared = [n for n, t in (*student.named_parameters(), *student.named_buffers()) if id(t) in theirs]
    if shared:
        raise InputError(
            f"student: shares {shared[0]} with the teacher ({len(shared)} tensors in all), which is frozen; "
            "give it a copy (copy.deepcopy)."
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """What all trainings of one call have in common."""

    feed: Feeding
    settings: Training
    runtime: Runtime
    seed: int
    screen: Display

    def scheme(self, network: Tapped, objective: Objective, teacher: Frozen | None) -> Offline:
        """A network and what it learns from, set up.

        Raises:
            InputError: something does not fit.
        """
        spans(objective, self.settings)
        first = self.feed.first()
        samples = len(self.feed) * len(first)
        setup(network, objective, teacher, cut(first, 0, PROBE_SAMPLES), samples, classes=0, seed=self.seed)
        if not any(p.requires_grad for p in network.parameters()):
            raise InputError("student: none of its parameters takes a gradient, so it cannot learn.")
        return Offline(network, objective, teacher)

    def train(self, title: str, scheme: Offline) -> None:
        """One training from start to end."""
        ema = None
        if self.settings.ema is not None:
            self.runtime.place(scheme)  # now, so that the average lies where the weights do
            ema = Ema(scheme.student, self.settings.ema, self.settings.epochs * len(self.feed))
        for number, (settings, span) in enumerate(spans(scheme.objective, self.settings)):
            scheme.objective.enter(number)
            trainer = Trainer(scheme, settings, self.runtime, len(self.feed), self.seed, span, ema)
            self._stage(f"{title}, {span.stage}" if span.stage else title, trainer)
        if ema is not None:
            ema.settle()
            self.runtime.same_buffers(scheme)

    def _stage(self, title: str, trainer: Trainer) -> None:
        epochs = trainer.total_steps // trainer.steps_per_epoch
        with self.screen.bar(title, trainer.total_steps - trainer.first_step, "steps") as bar:
            for step in trainer.fit(self.feed):
                due = bar.due()
                bar.advance(1, {n: float(v) for n, v in step.losses.items()} if due else None)
                if step.last:
                    loss = float(step.losses["loss"])
                    self.screen.say(f"{title}: epoch {step.epoch}/{epochs}  loss {loss:.4g}")
        trainer.check()
        self.runtime.same_buffers(trainer.scheme)


def _figures(
    student: Tapped,
    teacher: Frozen | None,
    control: Tapped | None,
    loader: Iterable[Any] | None,
    runtime: Runtime,
) -> dict[str, Evaluation | None]:
    """The figures of all networks, in one pass over the validation loader, which may shuffle."""
    networks = {
        "teacher": None if teacher is None else teacher.network,
        "control": control,
        "student": student,
    }
    asked = {name: network.eval() for name, network in networks.items() if network is not None}
    found: dict[str, Evaluation | None] = dict.fromkeys(networks)
    if loader is None:
        return found
    said: dict[str, list[Tensor]] = {name: [] for name in asked}
    targets: list[Tensor] = []
    with torch.no_grad(), runtime.autocast():
        for item in loader:
            batch = runtime.put(as_batch(item))
            for name, network in asked.items():
                said[name].append(network(batch.input).logits.float().cpu())
            targets.append(_labels(batch).cpu())
    if not targets:
        raise InputError("valid_loader: it gives no batch.")
    logits = {name: torch.cat(parts) for name, parts in said.items()}
    heard = logits.get("teacher")
    if heard is not None and heard.shape != logits["student"].shape:
        heard = None  # it answers other classes: there is nothing to compare
        del logits["teacher"]
    labels = torch.cat(targets)
    for name, answer in logits.items():
        found[name] = score(answer, labels, teacher_logits=None if name == "teacher" else heard)
    return found


def _labels(batch: Batch) -> Tensor:
    if batch.target is None:
        return torch.full((len(batch),), UNLABELLED)
    if batch.target.dim() != 1:
        raise InputError(
            f"valid_loader: targets must be class indices [B], not mixed; got {list(batch.target.shape)}."
        )
    return batch.target
