"""Asking a teacher once: its answers to so many views of every sample, written as they come.

The teacher is asked about the very batches of the training's plan, so that a network whose answer to a sample
depends in its last bit on the batch around it gives the same ones. What a pass leaves out, its incomplete
last batch, is asked too, unless an answer belongs to a place in a batch (mixes, repeats).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch

from limbeck.cache.layout import Rows
from limbeck.cache.store import Shard, Store
from limbeck.data.keyed import draw
from limbeck.data.loader import Loader
from limbeck.data.plans import Plan
from limbeck.knowledge import Batch, Knowledge
from limbeck.training.runtime import Runtime

__all__ = ["build", "rows_of_pass", "rows_of_shard"]

STREAM = 32
"""Where the draws of stored answers begin; views and mixes have the lower streams."""

LEAST = 8192
"""Rows of a shard, at least, where a pass has so many: a killed builder loses no more of its work."""

PIECES = 16
"""Shards of a pass, at most: a cache of very many samples must not become very many files."""


def rows_of_pass(plan: Plan, bound: bool) -> int:
    """Rows of one pass: every sample; or the whole batches, where an answer belongs to a place in one."""
    return len(plan) * min(plan.batch, plan.samples) if bound else plan.samples


def rows_of_shard(plan: Plan) -> int:
    """Rows of a shard: whole batches."""
    size = min(plan.batch, plan.samples)
    return max(1, -(-max(LEAST, plan.samples // PIECES) // size)) * size


def build(
    store: Store,
    ask: Callable[[Batch], Knowledge],
    loader: Loader,
    views: int,
    runtime: Runtime,
    advance: Callable[[int], None] = lambda rows: None,
    stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Fill a cache up to so many passes; shards that are there already are left as they are.

    Several processes share the shards out; the first one then writes the manifest.

    Args:
        store: the cache; its folder exists.
        ask: the teacher, on batches that lie where the runtime puts them.
        loader: the training's, of one process: order, views and mixes.
        views: passes that it shall hold.
        runtime: where.
        advance: told the rows that were done, by all processes together as far as this one knows.
        stop: asked before each shard, by all processes alike; True ends the work, and what is done stays.

    Returns:
        Whether all is there.

    Raises:
        InputError, WorkError: an answer cannot be stored, or the disk is full.
    """
    runtime.first(store.begin)
    runtime.wait()
    there = store.present()
    wanted = [shard for turn in range(views) for shard in store.shards(turn)]
    advance(sum(shard.last - shard.first for shard in wanted if shard.stem in there))
    missing = [shard for shard in wanted if shard.stem not in there]
    runtime.wait()  # all have looked before the first one writes
    for first in range(0, len(missing), runtime.world):
        if stop():
            return False
        together = missing[first : first + runtime.world]
        if runtime.rank < len(together):
            shard = together[runtime.rank]
            store.write(shard, _answers(store, ask, loader, shard, runtime))
        advance(sum(shard.last - shard.first for shard in together))
    runtime.wait()
    runtime.first(lambda: store.finish(max(views, store.passes)))
    return True


def _answers(
    store: Store, ask: Callable[[Batch], Knowledge], loader: Loader, shard: Shard, runtime: Runtime
) -> Rows:
    """The rows of a shard, from the teacher."""
    rows = np.zeros(shard.last - shard.first, dtype=store.layout.dtype)
    for batch, count in _batches(loader, shard):
        assert batch.keys is not None
        with torch.no_grad(), runtime.autocast():
            answer = ask(runtime.put(batch))
        index, view, place = batch.keys[:count].numpy().T
        kept = Knowledge(answer.logits[:count], tuple(feature[:count] for feature in answer.features))
        written = store.layout.encode(kept, draw(loader.plan.seed, index, view, STREAM))
        # Shards of a cache that was begun with another batch size do not end with a batch.
        mine = (place >= shard.first) & (place < shard.last)
        rows[place[mine] - shard.first] = written[mine]
    return rows


def _batches(loader: Loader, shard: Shard) -> Iterator[tuple[Batch, int]]:
    """The batches of the plan that fill a shard, and the samples that its pass leaves out; how many count."""
    plan = loader.plan
    size = min(plan.batch, plan.samples)
    begin, end = shard.first // size, min(-(-shard.last // size), len(plan))
    for parts in loader.steps(shard.turn, begin, end):
        yield from ((part, len(part)) for part in parts)
    left = np.arange(max(shard.first, len(plan) * size), shard.last, dtype=np.int64)
    if len(left):
        # As long as any other batch, with some samples twice: a compiled teacher would be compiled anew.
        places = np.resize(left, size)
        index = plan.order(shard.turn)[places]
        batch = loader.samples.take(index, shard.turn, plan.seed)
        keys = np.stack([index, np.full_like(index, shard.turn), places], axis=1)
        yield replace(batch, keys=torch.from_numpy(keys)), len(left)
