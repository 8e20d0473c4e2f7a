"""Stored answers belong to the batches of the plan that they are replayed for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck import Batch, Knowledge, Runtime
from limbeck.cache import Dense, Layout, Replay, Store, build, rows_of_pass, rows_of_shard
from limbeck.data import Mix, Plan
from limbeck.data.loader import Loader
from limbeck.data.samples import TensorSamples
from limbeck.data.views import TensorViews
from limbeck.errors import InputError
from limbeck.teachers import Cached

MIXES = [None, Mix(mixup=0.4, cutmix=1.0, mode="elem"), Mix(mixup=0.4, probability=0.5)]


def samples(count: int = 50) -> TensorSamples:
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    return TensorSamples(
        images=images.to(torch.uint8),
        targets=torch.arange(count) % 3,
        classes=("a", "b", "c"),
        views=TensorViews(crop=2, flip=True),
    )


def ask(batch: Batch) -> Knowledge:
    """A teacher whose answer tells any two images apart."""
    assert isinstance(batch.input, Tensor)
    rows = batch.input.flatten(1)
    return Knowledge(rows[:, :6] + rows.sum(1, keepdim=True), (rows.view(-1, 4, 16),))


def filled(
    folder: Path, data: TensorSamples, plan: Plan, mix: Mix | None, views: int, parts: int = 1, **how: Any
) -> tuple[Store, Replay]:
    bound = mix is not None or plan.repeats > 1
    layout = Layout(6, Dense(32), ((4, 16),))
    folder.mkdir(exist_ok=True)
    store = Store(folder, {"seed": plan.seed}, layout, rows_of_pass(plan, bound), how.pop("each", 24))
    loader = Loader(data, plan, parts=parts, mix=mix)
    build(store, how.pop("ask", ask), loader, views, Runtime("cpu"), **how)
    return store, Replay(store, plan, bound)


def check(loader: Loader, replay: Replay, views: range) -> None:
    """Each batch gets what the teacher would say of its pixels."""
    cached = Cached(replay)
    count = 0
    for view in views:
        for parts in loader.steps(view):
            for batch in parts:
                found, wanted = cached(batch), ask(batch)
                assert torch.equal(found.logits, wanted.logits)
                assert torch.equal(found.features[0], wanted.features[0])
                count += len(batch)
    assert count


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("repeats", [1, 3])
@pytest.mark.parametrize("mix", MIXES)
def test_what_is_replayed_is_what_the_teacher_would_say(
    tmp_path: Path, mix: Mix | None, repeats: int, parts: int
) -> None:
    data, plan = samples(), Plan(3, 50, 12, repeats=repeats)
    _, replay = filled(tmp_path / "cache", data, plan, mix, views=3, parts=parts)
    check(Loader(data, plan, parts=parts, mix=mix), replay, range(3))


@pytest.mark.parametrize("mix", MIXES[:2])
def test_few_views_are_replayed_again_and_again(tmp_path: Path, mix: Mix | None) -> None:
    data, plan = samples(), Plan(3, 50, 12)
    _, replay = filled(tmp_path / "cache", data, plan, mix, views=2)
    again = Plan(3, 50, 12, period=2, fixed=mix is not None)
    check(Loader(data, again, mix=mix), replay, range(5))


def test_with_few_views_the_order_changes_still_and_a_mix_comes_again() -> None:
    def orders(plan: Plan) -> list[list[int]]:
        return [np.concatenate([step[0] for step in plan.batches(view)]).tolist() for view in range(3)]

    free, fixed = Plan(3, 48, 12, period=1), Plan(3, 48, 12, period=1, fixed=True)
    assert orders(free) == orders(Plan(3, 48, 12))
    assert orders(fixed) == [orders(free)[0]] * 3
    (share,) = next(free.shares(2))
    assert set(share.view.tolist()) == {0}
    assert share.turn == 2
    assert next(fixed.shares(2))[0].turn == 0


def test_views_may_be_added_with_another_batch_size(tmp_path: Path) -> None:
    data = samples()
    store, _ = filled(tmp_path / "cache", data, Plan(3, 50, 12), None, views=1)
    loader = Loader(data, Plan(3, 50, 7))
    build(store, ask, loader, 2, Runtime("cpu"))
    check(loader, Replay(Store.open(store.folder), loader.plan, False), range(2))


def test_another_batch_size_and_other_shares_replay_the_same_cache(tmp_path: Path) -> None:
    data = samples()
    _, replay = filled(tmp_path / "cache", data, Plan(3, 50, 12), None, views=2)
    check(Loader(data, Plan(3, 50, 20), parts=2), replay, range(2))
    check(Loader(data, Plan(3, 50, 50), rank=1, world=5), replay, range(2))


@pytest.mark.parametrize("mix", MIXES[:2])
def test_processes_share_a_mixed_cache(tmp_path: Path, mix: Mix | None) -> None:
    data, plan = samples(), Plan(3, 50, 12)
    _, replay = filled(tmp_path / "cache", data, plan, mix, views=1)
    for rank in range(3):
        check(Loader(data, plan, rank=rank, world=3, mix=mix), replay, range(1))


def test_a_view_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    data, plan = samples(), Plan(3, 50, 12)
    _, replay = filled(tmp_path / "cache", data, plan, None, views=2)
    (batch,) = next(Loader(data, plan).steps(2))
    with pytest.raises(InputError, match="holds 2 views of each sample, and this is view 2"):
        Cached(replay)(batch)


def test_a_batch_of_unknown_samples_and_a_gradient_are_refused(tmp_path: Path) -> None:
    data, plan = samples(), Plan(3, 50, 12)
    _, replay = filled(tmp_path / "cache", data, plan, None, views=1)
    with pytest.raises(InputError, match="does not say which views"):
        Cached(replay)(Batch(torch.zeros(2, 1, 8, 8)))
    with pytest.raises(InputError, match="no gradient passes"):
        Cached(replay)(next(Loader(data, plan).steps(0))[0], differentiable=True)


def test_a_builder_that_is_stopped_goes_on_with_what_is_missing(tmp_path: Path) -> None:
    data, plan = samples(), Plan(3, 50, 12)
    asked: list[int] = []

    def counting(batch: Batch) -> Knowledge:
        asked.append(len(batch))
        return ask(batch)

    told: list[int] = []
    store, _ = filled(
        tmp_path / "cache",
        data,
        plan,
        None,
        views=2,
        each=24,
        ask=counting,
        stop=lambda: len(asked) >= 4,
        advance=told.append,
    )
    assert store.passes == 0
    assert len(store.present()) == 2
    before = len(asked)
    store, replay = filled(tmp_path / "cache", data, plan, None, views=2, each=24, ask=counting)
    # Two passes of four whole batches and the two samples that are left over, padded to a batch.
    assert len(asked) == 2 * 5
    assert before == 4
    assert set(asked) == {12}
    check(Loader(data, plan), replay, range(2))


def test_shards_hold_whole_batches_and_are_not_too_many() -> None:
    assert rows_of_shard(Plan(0, 50_000, 128)) == 8192
    assert rows_of_shard(Plan(0, 1_281_167, 1000)) == 81_000
    assert rows_of_shard(Plan(0, 100, 128)) % 100 == 0
