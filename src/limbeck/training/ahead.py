"""Asking a teacher about several coming batches in one pass: `looking_ahead`.

A small network leaves an accelerator idle between its many short kernels, and one pass over sixteen batches
takes hardly longer than one over one. Only a teacher whose answer to a batch depends on nothing else can be
asked ahead.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.schemes.base import Scheme
from limbeck.training.feed import Feed
from limbeck.training.runtime import Runtime

__all__ = ["batches_ahead", "looking_ahead"]

ENOUGH = 1024
"""Samples of one pass that keep an accelerator busy with the small networks of the field."""

MOST = 16
"""Batches that are asked about at a time, at most: they all lie in memory."""


ENOUGH = 1024
"""Samples of one pass that keep an accelerator busy with the small networks of the field."""

MOST = 16
"""Batches that are asked about at a time, at most: they all lie in memory."""


def batches_ahead(asked: int | None, batch: int, runtime: Runtime) -> int:
    """How many batches a teacher is asked about at a time.

    Args:
        asked: what the recipe says; None: one on a CPU, else as many as keep the device busy.
        batch: samples of a batch of one process.
        runtime: where.
    """
    if asked is not None:
        return asked
    return 1 if runtime.device.type == "cpu" else max(1, min(MOST, ENOUGH // max(1, batch)))


def looking_ahead(
    feed: Feed, scheme: Scheme, runtime: Runtime, ahead: int, view: int, start: int
) -> Iterator[tuple[list[Batch], list[Knowledge | None] | None]]:
    """The steps of a pass with what the teacher says of their parts; None where it is asked in the step.

    Groups begin at multiples of `ahead`, wherever a resumed training goes on: the last bit of an answer may
    depend on the batches beside it.
    """
    if ahead == 1 or not scheme.looks_ahead:
        yield from ((parts, None) for parts in feed.steps(view=view, start=start))
        return
    first = start // ahead * ahead
    steps = feed.steps(view=view, start=first)
    while group := [[runtime.put(part) for part in parts] for parts in islice(steps, ahead)]:
        taught = iter(_asked(scheme, [part for parts in group for part in parts], runtime))
        together = [(parts, [next(taught) for _ in parts]) for parts in group]
        yield from together[max(0, start - first) :]
        first += len(group)


def _asked(scheme: Scheme, parts: list[Batch], runtime: Runtime) -> list[Knowledge | None]:
    """What the teacher says of some parts, asked in one pass."""
    with runtime.autocast():
        answer: Knowledge | None = scheme.teach(_joined(parts))
    if answer is None:
        return [None] * len(parts)
    sizes = [len(part) for part in parts]
    features = [torch.split(feature, sizes) for feature in answer.features]
    return [
        Knowledge(logits, tuple(feature[number] for feature in features))
        for number, logits in enumerate(torch.split(answer.logits, sizes))
    ]


def _joined(parts: list[Batch]) -> Batch:
    first = parts[0].input
    if isinstance(first, Tensor):
        joined: Tensor | dict[str, Tensor] = torch.cat(
            [p.input for p in parts if isinstance(p.input, Tensor)]
        )
    else:
        joined = {
            name: torch.cat([p.input[name] for p in parts if isinstance(p.input, dict)]) for name in first
        }
    return replace(parts[0], input=joined, target=None, index=None, view=None, labelled=None, keys=None)
