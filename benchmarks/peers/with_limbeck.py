"""Limbeck's trainer, with whatever stands in its teacher's place."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TypeAlias

from limbeck import Batch, Frozen, Objective, Offline, Runtime, Tapped, Term, Trainer, Training
from limbeck.data.loader import Loader
from limbeck.data.plans import Plan
from limbeck.data.views import TensorViews
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.teachers import Teacher
from limbeck.training.trainer import Feed
from peers.side import Step, need_compiler
from peers.task import LABELS, MEAN, SGD, STD, TEMPERATURE, Task

__all__ = ["Factory", "with_limbeck", "with_loader"]

Factory: TypeAlias = Callable[[], Teacher]
"""Makes the teacher of a training. It may raise `AbsentError`: its row then says what is missing."""

STEPS = 1_000_000


class Again:
    """A task's batches again and again: what is measured is the step, not the data."""

    complete = True

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return STEPS

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        for step in range(start, STEPS):
            yield [self.batches[step % len(self.batches)]]


def with_limbeck(task: Task, compiled: bool = False, teacher: Factory | None = None) -> Step:
    """The trainer's steps on the task's batches.

    Args:
        task: what is trained.
        compiled: `train.compile`: the scheme, and the teacher where it is a network of torch's.
        teacher: makes what answers in the teacher's place; None: the task's teacher, frozen.

    Raises:
        AbsentError: there is nothing to compile with, or the teacher's maker says so.
    """
    network, student = task.networks()
    answers = Frozen(Tapped(network)) if teacher is None else teacher()
    return _steps(Tapped(student), answers, Again(task.batches), compiled)


def with_loader(task: Task, compiled: bool = True, augmented: bool = True) -> Step:
    """The trainer's steps on batches of Limbeck's own loader, without worker processes.

    Args:
        task: with samples.
        compiled: as above.
        augmented: crop, flip and another order in each pass; else the task's own batches.

    Raises:
        AbsentError: there is nothing to compile with.
    """
    assert task.samples is not None
    samples = replace(task.samples, views=TensorViews(crop=4, flip=True) if augmented else None)
    plan = Plan(0, len(samples), len(task.batches[0]), shuffle=augmented)
    teacher, student = (
        Tapped(network, (), InputAdapter(InputSpec(MEAN, STD), channels=3)) for network in task.networks()
    )
    return _steps(student, Frozen(teacher), Loader(samples, plan), compiled)


def _steps(student: Tapped, teacher: Teacher, feed: Feed, compiled: bool) -> Step:
    if compiled:
        need_compiler()
    objective = Objective({"cross_entropy": LABELS, "kd": Term(weight=1 - LABELS, temperature=TEMPERATURE)})
    settings = Training(epochs=STEPS, optimizer={"name": "sgd", **SGD}, schedule={"name": "constant"})
    scheme = Offline(student, objective, teacher)
    trainer = Trainer(scheme, settings, Runtime("cpu", compile=compiled), len(feed))
    running = trainer.fit(feed)
    return lambda: float(next(running).losses["loss"])
