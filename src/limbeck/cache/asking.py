"""Asking a teacher again about a few samples when its stored answers are opened: `ask_again`."""

from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.cache.building import STREAM
from limbeck.cache.codecs import Sampled
from limbeck.cache.replay import Replay
from limbeck.data.keyed import draw
from limbeck.data.loader import Loader
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.training.runtime import Runtime

__all__ = ["ask_again"]

ASKED = 16
"""Samples about which the teacher is asked."""

APART = 0.02
"""How far the answers may be from the stored ones: the probability that changes classes, and the share of a
feature's size. Rounding stays far below it; another network or another view far above."""

DRAWN_APART = 0.2
"""The same where classes were drawn: a last bit may move some of the draws."""


def ask_again(replay: Replay, ask: Callable[[Batch], Knowledge], loader: Loader, runtime: Runtime) -> None:
    """Compare stored answers with the teacher's own: what no checksum covers, such as its code, may change.

    Args:
        replay: the stored answers.
        ask: the teacher.
        loader: the training's, of one process.
        runtime: where.

    Raises:
        InputError: it answers otherwise.
    """
    batch = _first(next(loader.steps(0, 0, 1))[0], ASKED)
    assert batch.keys is not None
    with torch.no_grad(), runtime.autocast():
        answer = ask(runtime.put(batch))
    index, view, _ = batch.keys.numpy().T
    layout = replay.store.layout
    fresh = layout.decode(layout.encode(answer, draw(loader.plan.seed, index, view, STREAM)))
    apart = _apart(fresh, replay.take(batch.keys), getattr(layout.codec, "temperature", 1.0))
    if not apart <= (DRAWN_APART if isinstance(layout.codec, Sampled) else APART):
        raise InputError(
            f"teacher.cache: the teacher's answers to {len(batch)} samples are not those stored in "
            f"{replay.store.folder} (apart by {apart:.3g}): its code, the samples' files or their views have "
            "changed. Delete the folder, and the cache is made anew."
        )


def _first(batch: Batch, count: int) -> Batch:
    """The first samples of a batch; what is mixed into them is in their pixels already."""
    assert isinstance(batch.input, Tensor)
    assert batch.keys is not None
    return Batch(batch.input[:count], keys=batch.keys[:count])


def _apart(one: Knowledge, other: Knowledge, temperature: float) -> float:
    """How far two answers are from each other: the largest of the total variations of the responses, and of
    the relative distances of the features."""
    first, second = (torch.softmax(k.logits / temperature, 1) for k in (one, other))
    found = float((first - second).abs().sum(1).max()) / 2
    for a, b in zip(one.features, other.features, strict=True):
        found = max(found, float((a - b).norm() / b.norm().clamp(min=1e-12)))
    return found
