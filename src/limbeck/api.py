"""Distilling from Python, with plain modules and plain data loaders: `limbeck.distill`."""

import contextlib
import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from limbeck.build import PROBE_SAMPLES
from limbeck.composing import compose
from limbeck.errors import InputError
from limbeck.evaluation.metrics import Evaluation
from limbeck.feeding import Feeding, cut
from limbeck.inputs import InputAdapter
from limbeck.objective import Objective, Term
from limbeck.pairing import settle_terms
from limbeck.progress import Silent, display
from limbeck.scoring import figures
from limbeck.sharing import Weights, given_weighting, named, shared_out
from limbeck.sharing import built as frozen
from limbeck.staging import Stage, joined, with_first_stages
from limbeck.taps import Tapped
from limbeck.teacherless import check_apart, chosen_scheme
from limbeck.teachers import Frozen
from limbeck.training.ema import Averaging
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.trainings import Trainings

__all__ = ["Distilled", "Feeding", "distill"]


@dataclass(frozen=True, slots=True)
class Distilled:
    """What `distill` gives.

    Attributes:
        student: the plain module, in eval mode, trained in place; for SimKD the composite around it.
        evaluation: its figures on the validation loader, agreement with the teacher included.
        teacher: the teacher's figures, of several those of the average of their probabilities; None where it
            answers other classes than the student.
        control: the figures of the same student trained without the teacher; None where not asked for, or
            where the objective has no term that looks at labels.
        gain: accuracy of the student minus the control's; one seed, so it has no interval.
        teachers: of several teachers, the figures of each by name.
        weights: of several teachers, the mean weight of each in the last epoch.
        others: figures of what learned beside the student: its peers and their ensemble, its exits.
    """

    student: nn.Module
    evaluation: Evaluation | None
    teacher: Evaluation | None
    control: Evaluation | None
    gain: float | None
    teachers: Mapping[str, Evaluation] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, Evaluation] = field(default_factory=dict)


def distill(
    teacher: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None,
    student: nn.Module,
    train_loader: Iterable[Any],
    valid_loader: Iterable[Any] | None = None,
    *,
    objective: Mapping[str, Term | float] | None = None,
    weighting: Weights | None = None,
    scheme: str | Mapping[str, Any] | None = None,
    epochs: int = 30,
    optimizer: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    stages: Sequence[Stage] | None = None,
    accumulate: int = 1,
    clip: float | None = None,
    decay_bias_and_norm: bool = True,
    ema: Averaging | None = None,
    control: bool = True,
    teacher_adapter: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
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
            Several are a list (called teacher-1, teacher-2, …) or a mapping by name.
        student: answers logits [B, C].
        train_loader: yields `(input, target)`; targets are class indices, -1 where not known.
        valid_loader: for the figures; None gives none.
        objective: terms by name; by default .1 cross-entropy and .9 kd at temperature 4, and of a scheme that
            which its paper has.
        weighting: of several teachers, how much each counts, as in a recipe: average (the default), a list of
            numbers, confidence, entropy, gradient, learned, `{"name": …, options}`, or a `Weighting`.
        scheme: who teaches where there is no teacher, as in a recipe: `{"name": "own", "kind": "ema"}`, or
            `{"name": "online", "kind": "mutual", "peers": [network]}`, whose peers are trained in place too.
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
        teacher_adapter, student_adapter: what stands between the loader's input and each network; of several
            teachers one for all, or one for each as they are given.
        device, precision, compile: see `limbeck.training.runtime.Runtime`.
        seed: of dropout, of the methods' own layers, and of the order of a shuffling loader.
        progress: show progress on standard error.

    Returns:
        The student and its figures.

    Raises:
        InputError: something that was given does not fit.
        WorkError: a loss is not finite any more.
    """
    chosen = chosen_scheme(scheme, teacher, stages, objective)
    if objective is None:
        classic: dict[str, Term | float] = {"cross_entropy": 0.1, "kd": Term(weight=0.9, temperature=4.0)}
        objective = classic if chosen is None else chosen.terms
    teachers, adapters = named(teacher, "teacher"), named(teacher_adapter, "teacher_adapter")
    weighed = given_weighting(weighting, len(teachers))
    for one in teachers.values():
        if not isinstance(one, nn.Module):
            raise InputError(f"teacher: must be a module, or several in a list or by name; got {one!r}.")
        _check_apart(one, student)
    if chosen is not None:
        check_apart(student, chosen.peers)
    feed = Feeding(train_loader, accumulate, seed)
    written = stages is not None or chosen is not None
    terms, ahead = (dict(objective), list(stages or ())) if written else with_first_stages(objective, epochs)
    names = list(teachers)
    terms = shared_out(terms, names, 1 / max(1, len(names)))
    ahead = [replace(s, objective=_shared_stage(s, names)) for s in ahead]
    everything = [terms, *(stage.objective for stage in ahead)]
    if any(isinstance(term, Term) and term.auto for part in everything for term in part.values()):
        whole = Tapped(student, (), student_adapter, who="student")
        plain_ones = {n: Tapped(t, (), adapters.get(n, adapters.get(""))) for n, t in teachers.items()}
        plain_ones |= {} if chosen is None else {"": whole}  # its teacher is made of it
        probe = cut(feed.first(), 0, PROBE_SAMPLES)
        terms = settle_terms(terms, whole, plain_ones, probe)
        ahead = [replace(s, objective=settle_terms(s.objective, whole, plain_ones, probe)) for s in ahead]
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
    work = Trainings(feed, settings, runtime, seed, display() if progress else Silent())
    with contextlib.ExitStack() as after:
        after.enter_context(runtime.guard())
        alone = None
        master = frozen(teachers, adapters, built.teacher_taps, weighed)
        if master is not None:
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
        if built.reused is not None and isinstance(master, Frozen):
            plain = Tapped(student, (), student_adapter, who="student")
            student = compose(plain, built, master, cut(feed.first(), 0, PROBE_SAMPLES), seed)
        # All is set up before anything is trained, so that what cannot work is told at once.
        plan = (
            work.scheme(student, student_adapter, built, master)
            if chosen is None
            else work.taught_by(chosen, Tapped(student, (), student_adapter, who="student"), terms)
        )
        after.callback(plan.close)
        if labels_only is not None and alone is not None:
            work.train("control", work.offline(alone, labels_only, None))
        weights = work.train("student", plan)
        student = plan.student.model.eval()
        found = figures(plan.student, master, alone, valid_loader, runtime, plan.further())
    gain = (
        found["student"].accuracy - found["control"].accuracy
        if found["student"] and found["control"]
        else None
    )
    each = {name: told for name in names if (told := found.get(f"teacher.{name}")) is not None}
    beside = {name: told for name in plan.further() if (told := found.get(name)) is not None}
    return Distilled(
        student, found["student"], found["teacher"], found["control"], gain, each, weights, beside
    )


def _shared_stage(stage: Stage, names: Sequence[str]) -> dict[str, Term | float]:
    """A stage's terms; where it trains layers alone, a weight would only change the learning rate."""
    share = 1.0 if stage.trains == "layers" else 1 / max(1, len(names))
    return shared_out(stage.objective, names, share)


def _check_apart(teacher: nn.Module, student: nn.Module) -> None:
    """What both hold would be frozen with the teacher, and change with the student."""
    theirs = {id(t) for t in (*teacher.parameters(), *teacher.buffers())}
    shared = [n for n, t in (*student.named_parameters(), *student.named_buffers()) if id(t) in theirs]
    if shared:
        raise InputError(
            f"student: shares {shared[0]} with the teacher ({len(shared)} tensors in all), which is frozen; "
            "give it a copy (copy.deepcopy)."
        )
