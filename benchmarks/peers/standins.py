"""What can stand in the teacher's place: each function gives a maker of a teacher without arguments."""

import atexit
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from limbeck import Batch, Frozen, InputError, Knowledge, Tapped, backends
from limbeck.cache import Dense, Layout, Replay, Store
from limbeck.data.plans import Plan
from limbeck.teachers import Cached, Teacher
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

    The maker raises `AbsentError` where this backend cannot be built here.
    """

    def make() -> Teacher:
        teacher = task.networks()[0].requires_grad_(False)
        network = Tapped(teacher.to(memory_format=torch.channels_last))
        images = [x.contiguous(memory_format=torch.channels_last) for x, _ in task.pairs]
        options = {"calibration": images} if name.startswith("int8") else {}
        try:
            return Answering(backends.build(name, network, images[0], **options))
        except InputError as error:
            raise AbsentError(str(error)) from error

    return make


def cached(task: Task) -> Factory:
    """The teacher's answers to the task's batches, kept on disk in half precision and read from there."""

    def make() -> Teacher:
        teacher = Frozen(Tapped(task.networks()[0]))
        sizes = [len(batch) for batch in task.batches]
        plan = Plan(0, sum(sizes), sizes[0], shuffle=False)
        layout = Layout(teacher(task.batches[0]).logits.shape[1], Dense(16))
        folder = Path(tempfile.mkdtemp(prefix="answers-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        store = Store(folder, {}, layout, plan.samples, plan.samples)
        rows = [layout.encode(teacher(b), np.zeros(len(b), np.uint64)) for b in task.batches]
        store.write(store.shards(0)[0], np.concatenate(rows))
        store.finish(1)
        return Cached(Replay(Store.open(folder), plan, bound=False))

    return make
