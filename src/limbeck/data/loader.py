"""From samples and a plan to batches."""

import os
import signal
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from limbeck.data.mixing import Mix
from limbeck.data.on_device import DeviceMix, DeviceSamples, fits
from limbeck.data.plans import Plan, Share
from limbeck.data.samples import Samples, TensorSamples
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED, Batch

__all__ = ["Loader", "evaluation_batches"]

_Request: TypeAlias = Share | NDArray[np.int64]
"""A share of a batch of the training; or numbers of samples, for an evaluation."""


class Loader:
    """What the trainer goes through: the batches of each pass, for one process.

    Args:
        samples: the training split.
        plan: order and batch size.
        rank: number of this process.
        world: number of processes.
        parts: micro-batches of one optimiser step (gradient accumulation).
        workers: processes that prepare batches; 0 for none. The batches are the same whatever it is.
        mix: how the samples of a batch are mixed; None: not at all.
        device: an accelerator that makes the batches, without workers, where samples and mix allow that
            (see `on_device.fits`); they are the same to the last bit, and lie there. None: the CPU does.
        channels_last: the memory order of images that are made on the device.

    Raises:
        InputError: the batch cannot be shared out among processes and parts.
    """

    def __init__(
        self,
        samples: Samples,
        plan: Plan,
        *,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        workers: int = 0,
        mix: Mix | None = None,
        device: torch.device | None = None,
        channels_last: bool = False,
    ) -> None:
        if plan.samples != len(samples):
            raise InputError(f"data: the plan is for {plan.samples} samples, there are {len(samples)}")
        self.samples, self.plan = samples, plan
        self.complete = bool((samples.targets != UNLABELLED).all())
        self._share = {"rank": rank, "world": world, "parts": parts}
        plan.shares(0, **self._share)  # the errors now rather than at the first step
        self._prepared = _Prepared(samples, plan.seed, mix)
        if device is not None and isinstance(samples, TensorSamples) and fits(samples, mix, device):
            there = DeviceSamples(samples, device, channels_last=channels_last)
            self._prepared, workers = _Prepared(there, plan.seed, None if mix is None else DeviceMix(mix)), 0
        self._requests = _Requests()
        self._workers = _workers(self._prepared, self._requests, workers) if workers else None

    def __len__(self) -> int:
        """Optimiser steps a pass."""
        return len(self.plan)

    def steps(self, view: int, start: int = 0, end: int | None = None) -> Iterator[list[Batch]]:
        """The steps of pass `view`, from number `start` on and before `end`: a list of micro-batches each."""
        parts = self._share["parts"]
        count = (len(self) if end is None else end) - start
        planned = islice(self.plan.shares(view, **self._share, start=start), count)
        if self._workers is None:
            for step in planned:
                yield [self._prepared.take(share) for share in step]
            return
        self._requests.set(share for step in planned for share in step)
        ready = _opened(self._workers)
        for _ in range(count):
            yield [next(ready) for _ in range(parts)]


def evaluation_batches(
    samples: Samples, batch_size: int, *, rank: int = 0, world: int = 1, workers: int = 0
) -> Iterator[Batch]:
    """Every sample once, in order and without augmentation.

    Each of several processes takes one stretch of the samples; lengths differ by at most one, and no
    sample is repeated to fill up.
    """
    mine = np.array_split(np.arange(len(samples), dtype=np.int64), world)[rank]
    indices = [mine[first : first + batch_size] for first in range(0, len(mine), batch_size)]
    if not workers:
        for index in indices:
            yield samples.take(index, None, 0)
        return
    requests = _Requests()
    requests.set(iter(indices))
    yield from _opened(_workers(_Prepared(samples, 0, None), requests, workers, keep=False))


class _Requests(Sampler[_Request]):
    """What the workers shall prepare next; set anew for each pass, so that the workers live on."""

    def __init__(self) -> None:
        self._wanted: Iterator[_Request] = iter(())

    def set(self, wanted: Iterator[_Request]) -> None:
        self._wanted = wanted

    def __iter__(self) -> Iterator[_Request]:
        return self._wanted


class _Failure:
    """An error for the user, carried out of a worker without the traceback that torch would add."""

    def __init__(self, message: str) -> None:
        self.message = message


class _Prepared(Dataset[Batch | _Failure]):
    """Whole batches by request: torch's loader then moves few large objects instead of many small ones."""

    def __init__(self, samples: Samples | DeviceSamples, seed: int, mix: Mix | DeviceMix | None) -> None:
        self._samples, self._seed, self._mix = samples, seed, mix

    def take(self, request: _Request) -> Batch:
        """A batch, mixed where that is asked for."""
        if not isinstance(request, Share):
            return self._samples.take(request, None, self._seed)
        batch = self._samples.take(request.index, request.view, self._seed)
        keys = torch.from_numpy(np.stack([request.index, request.view, request.place], axis=1))
        batch = replace(batch, keys=keys)
        if self._mix is None:
            return batch
        assert isinstance(batch.input, Tensor)
        assert batch.target is not None
        images, target = self._mix(batch.input, batch.target, request, self._seed, len(self._samples.classes))
        return replace(batch, input=images, target=target)

    def __getitem__(self, request: _Request) -> Batch | _Failure:
        try:
            return self.take(request)
        except InputError as error:
            return _Failure(str(error))


def _workers(prepared: _Prepared, requests: _Requests, workers: int, keep: bool = True) -> DataLoader[Any]:
    return DataLoader(
        prepared,
        sampler=requests,
        batch_size=None,
        num_workers=workers,
        persistent_workers=keep,
        worker_init_fn=_leave_stopping_to_parent,
        # A generator of its own: opening a loader must not move the global one, or a resumed run differs.
        generator=torch.Generator(),
    )


def _leave_stopping_to_parent(worker: int) -> None:
    """Let a worker outlive the signals that ask a run to stop, which reach the whole group of processes.

    The step that runs still wants its batch before the state is saved. The parent ends its workers by other
    means, and of its last resort, SIGTERM, sends several.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, handle)


def _opened(loader: DataLoader[Any]) -> Iterator[Batch]:
    with warnings.catch_warnings():
        # Newer Pythons warn of forking beside torch's threads; the workers use none of what those hold.
        warnings.filterwarnings("ignore", message=".*use of fork", category=DeprecationWarning)
        prepared = iter(loader)
    for ready in prepared:
        if isinstance(ready, _Failure):
            raise InputError(ready.message)
        yield ready
