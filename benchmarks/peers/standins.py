"""What can stand in the teacher's place: each function gives a maker of a teacher without arguments."""

from importlib import import_module
from typing import Any

from limbeck import Frozen, InputError, Tapped
from limbeck.teachers import Teacher
from peers.side import AbsentError
from peers.task import Task
from peers.with_limbeck import Factory

__all__ = ["EXTRA", "INT8", "backend", "cached"]

EXTRA, INT8 = "openvino", "openvino-int8"
"""Names, for `limbeck.backends.build`, of another runtime with exact answers, and of one in 8 bits."""


def backend(name: str, task: Task) -> Factory:
    """The teacher's network as another runtime computes it.

    The maker raises `AbsentError` where this Limbeck has no backends, or cannot build this one here.
    """

    def make() -> Teacher:
        build = _wanted("limbeck.backends", "build")
        try:
            return Frozen(Tapped(build(name, task.networks()[0], task.batches[0].input)))
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
