"""What can stand in the teacher's place: each function gives a maker of a teacher without arguments."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from limbeck import Batch, InputError, Knowledge, Tapped
from limbeck.teachers import Teacher
from peers.side import AbsentError
from peers.task import Task
from peers.with_limbeck import Factory

__all__ = ["backend", "cached"]


class Answering(Teacher):
    """A teacher that answers by a function of the batch's input."""

    def __init__(self, answer: Callable[[Any], Knowledge]) -> None:
        self.answer = answer

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        assert not differentiable
        return self.answer(batch.input)


def backend(name: str, task: Task) -> Factory:
    """The teacher's network as a backend of Limbeck computes it, calibrated on the task's batches for int8.

    The maker raises `AbsentError` where this Limbeck has no backends, or cannot build this one here.
    """

    def make() -> Teacher:
        build = _wanted("limbeck.backends", "build")
        teacher = task.networks()[0].requires_grad_(False)
        network = Tapped(teacher.to(memory_format=torch.channels_last))
        images = [x.contiguous(memory_format=torch.channels_last) for x, _ in task.pairs]
        options = {"calibration": images} if name.startswith("int8") else {}
        try:
            return Answering(build(name, network, images[0], **options))
        except InputError as error:
            raise AbsentError(str(error)) from error

    return make


def cached(task: Task) -> Factory:
    """The teacher's answers to the task's batches, computed before and looked up by sample and view.

    The maker raises `AbsentError` where this Limbeck has no such teacher.
    """

    def make() -> Teacher:
        _wanted("limbeck.teachers", "Cached")
        raise AbsentError("limbeck.teachers.Cached is there, and standins.py does not yet make one")

    return make


def _wanted(module: str, name: str) -> Any:
    """A name of a module.

    Raises:
        AbsentError: it is not there.
    """
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise AbsentError(f"this Limbeck has no {module}.{name}") from error
