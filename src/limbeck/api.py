"""Distilling from Python, with plain modules and plain data loaders: `limbeck.distill`."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from limbeck.build import setup
from limbeck.errors import InputError
from limbeck.evaluation.metrics import Evaluation, evaluate
from limbeck.inputs import InputAdapter
from limbeck.knowledge import Batch, as_batch
from limbeck.objective import Objective, Term
from limbeck.progress import Display, Silent, display
from limbeck.schemes import Offline
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

__all__ = ["Distilled", "Feeding", "distill"]


@dataclass(frozen=True, slots=True)
class Distilled:
    """What `distill` gives.

    Attributes:
        student: the plain module, in eval mode, trained in place.
        evaluation: its figures on the validation loader, agreement with the teacher included.
        teacher: the teacher's figures.
        control: the figures of the same student trained without the teacher; None where not asked for.
        gain: accuracy of the student minus the control's; one seed, so it has no interval.
    """

    student: nn.Module
    evaluation: Evaluation | None
    teacher: Evaluation | None
    control: Evaluation | None
    gain: float | None


class Feeding:
    """A plain loader, of `(input, target)` pairs or of `Batch`, as the trainer reads it.

    Args:
        loader: anything that can be gone through again and again and has a length.
        parts: into how many equal parts each batch is split (accumulation).

    Raises:
        InputError: the loader has no length.
    """

    def __init__(self, loader: Iterable[Any], parts: int = 1) -> None:
        if not isinstance(loader, Sized) or len(loader) == 0:
            raise InputError(
                "train_loader: must have a length of at least 1 (a DataLoader, or a list of batches)."
            )
        self.loader = loader
        self.parts = parts

    def __len__(self) -> int:
        return len(self.loader)

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        """The batches of one pass. A plain loader cannot skip, so `start` reads and drops."""
        assert isinstance(self.loader, Iterable)
        for number, item in enumerate(self.loader):
            if number >= start:
                yield _split(as_batch(item), self.parts)


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    if len(batch) % parts:
        raise InputError(f"accumulate: a batch of {len(batch)} cannot be split into {parts} equal parts.")
    size = len(batch) // parts

    def cut(value: Any, i: int) -> Any:
        if isinstance(value, Mapping):
            return {k: v[i * size : (i + 1) * size] for k, v in value.items()}
        return None if value is None else value[i * size : (i + 1) * size]

    return [
        Batch(cut(batch.input, i), cut(batch.target, i), cut(batch.index, i), cut(batch.view, i))
        for i in range(parts)
    ]


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
    accumulate: int = 1,
    clip: float | None = None,
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

    Args:
        teacher: answers logits [B, C]; frozen in eval mode and unchanged, BatchNorm statistics included.
        student: answers logits [B, C].
        train_loader: yields `(input, target)`; targets are class indices, -1 where not known.
        valid_loader: for the figures; None gives none.
        objective: terms by name; by default .1 cross-entropy and .9 kd at temperature 4.
        epochs: passes over `train_loader`.
        optimizer: `{"name": "sgd", "lr": .05, "momentum": .9, "weight_decay": 5e-4}` by default.
        schedule: `{"name": "cosine"}` by default.
        accumulate: into how many parts each batch is split.
        clip: largest norm of the gradient.
        control: train a copy of the student without the teacher first, for comparison.
        teacher_adapter, student_adapter: what stands between the loader's input and each network.
        device, precision, compile: see `limbeck.training.runtime.Runtime`.
        seed: of dropout and of the methods' own layers.
        progress: show progress on standard error.

    Returns:
        The student and its figures.

    Raises:
        InputError: something that was given does not fit.
        WorkError: a loss is not finite any more.
    """
    terms: Mapping[str, Term | float] = objective or {
        "cross_entropy": 0.1,
        "kd": Term(weight=0.9, temperature=4.0),
    }
    settings = Training(
        epochs=epochs,
        optimizer=optimizer or {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        schedule=schedule or {"name": "cosine"},
        accumulate=accumulate,
        clip=clip,
    )
    runtime = Runtime(device, precision, compile)
    screen = display() if progress else Silent()
    feed = Feeding(train_loader, accumulate)
    first = as_batch(next(iter(train_loader)))
    built = Objective(terms)
    master = None
    if teacher is not None:
        master = Frozen(Tapped(teacher, built.teacher_taps, teacher_adapter, who="teacher"))
    alone = None
    label_terms = built.label_terms()
    if control and label_terms and built.needs_teacher:
        shadow = copy.deepcopy(student)
        alone = _train(
            "control",
            shadow,
            student_adapter,
            Objective(label_terms),
            None,
            feed,
            first,
            settings,
            runtime,
            seed,
            screen,
        )
    network = _train(
        "student", student, student_adapter, built, master, feed, first, settings, runtime, seed, screen
    )
    found = _figures(network, master, alone, valid_loader, runtime)
    student.eval()
    for tapped in (network, alone, None if master is None else master.network):
        if tapped is not None:
            tapped.close()
    gain = (
        found["student"].accuracy - found["control"].accuracy
        if found["student"] and found["control"]
        else None
    )
    return Distilled(student, found["student"], found["teacher"], found["control"], gain)


def _train(
    title: str,
    student: nn.Module,
    adapter: nn.Module | None,
    objective: Objective,
    teacher: Frozen | None,
    feed: Feeding,
    first: Batch,
    settings: Training,
    runtime: Runtime,
    seed: int,
    screen: Display,
) -> Tapped:
    """One training; the network with its taps still on."""
    network = Tapped(student, objective.student_taps, adapter, who="student")
    setup(network, objective, teacher, _some(first), samples=len(feed) * len(first), classes=0, seed=seed)
    trainer = Trainer(Offline(network, objective, teacher), settings, runtime, len(feed), seed)
    with screen.bar(title, trainer.total_steps, "steps") as bar:
        for step in trainer.fit(feed):
            due = bar.due()
            bar.advance(1, {n: float(v) for n, v in step.losses.items()} if due else None)
            if step.last:
                screen.say(
                    f"{title}: epoch {step.epoch}/{settings.epochs}  loss {float(step.losses['loss']):.4g}"
                )
    return network


def _some(batch: Batch, count: int = 8) -> Batch:
    def cut(value: Any) -> Any:
        return {k: v[:count] for k, v in value.items()} if isinstance(value, Mapping) else value[:count]

    return Batch(cut(batch.input), None if batch.target is None else batch.target[:count])


def _figures(
    student: Tapped,
    teacher: Frozen | None,
    control: Tapped | None,
    loader: Iterable[Any] | None,
    runtime: Runtime,
) -> dict[str, Evaluation | None]:
    """The figures of all networks on the validation loader."""
    networks = {
        "teacher": None if teacher is None else teacher.network,
        "control": control,
        "student": student,
    }
    found: dict[str, Evaluation | None] = dict.fromkeys(networks)
    if loader is None:
        return found
    said: torch.Tensor | None = None
    for name, network in networks.items():
        if network is None:
            continue
        network.eval()

        def answer(batch: Batch, network: Tapped = network) -> torch.Tensor:
            with runtime.autocast():
                logits: torch.Tensor = network(runtime.put(batch).input).logits
            return logits

        batches = [as_batch(item) for item in loader]
        classes = int(answer(batches[0]).shape[1])
        found[name], logits = evaluate(answer, batches, classes=classes, teacher_logits=said)
        said = logits if name == "teacher" else said
    return found
