"""Plans: the order and the batches are a pure function, whatever the number of processes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.data import Plan
from limbeck.errors import InputError


def whole(plan: Plan, view: int) -> list[np.ndarray]:
    return [parts[0] for parts in plan.batches(view)]


@given(st.integers(-5, 2**70), st.integers(1, 300), st.integers(0, 50))
def test_order_is_a_permutation_that_depends_on_its_key_only(seed: int, samples: int, view: int) -> None:
    order = Plan(seed, samples, 8).order(view)
    assert sorted(order.tolist()) == list(range(samples))
    assert np.array_equal(order, Plan(seed, samples, 3).order(view))


def test_order_differs_by_pass_and_seed() -> None:
    orders = [tuple(Plan(seed, 100, 10).order(view)) for seed in range(3) for view in range(3)]
    assert len(set(orders)) == 9


def test_order_stays_the_same_in_later_versions() -> None:
    # A run that was started with an older version must go on with the same samples.
    assert Plan(7, 10, 2).order(3).tolist() == [2, 5, 9, 7, 3, 0, 6, 8, 4, 1]


def test_every_place_gets_every_sample_equally_often() -> None:
    counts = np.zeros((8, 8))
    for view in range(4000):
        counts[np.arange(8), Plan(0, 8, 2).order(view)] += 1
    # 500 expected in each cell with a standard deviation of 21.
    assert counts.min() > 400
    assert counts.max() < 600


def test_tail_is_left_out_and_is_another_one_in_each_pass() -> None:
    plan = Plan(0, 10, 4)
    assert len(plan) == 2
    left = [set(range(10)) - set(np.concatenate(whole(plan, view)).tolist()) for view in range(4)]
    assert all(len(out) == 2 for out in left)
    assert len({tuple(sorted(out)) for out in left}) > 1


def test_fewer_samples_than_the_batch_make_one_batch_of_all() -> None:
    plan = Plan(0, 5, 64)
    (only,) = whole(plan, 1)
    assert len(plan) == 1
    assert sorted(only.tolist()) == [0, 1, 2, 3, 4]


def test_without_shuffling_samples_keep_their_order() -> None:
    assert np.concatenate(whole(Plan(0, 6, 3, shuffle=False), 5)).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("world", "parts"), [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (2, 3)])
def test_processes_and_parts_share_each_batch_in_mirrored_pairs(world: int, parts: int) -> None:
    plan = Plan(3, 60, 24)
    ranks = [list(plan.batches(2, rank=rank, world=world, parts=parts)) for rank in range(world)]
    for step, batch in enumerate(whole(plan, 2)):
        shares = [share for rank in ranks for share in rank[step]]
        assert sorted(np.concatenate(shares).tolist()) == sorted(batch.tolist())
        place = {int(sample): position for position, sample in enumerate(batch)}
        for share in shares:
            assert len(share) == 24 // (world * parts)
            for sample, partner in zip(share, share[::-1], strict=True):
                assert place[int(sample)] == 23 - place[int(partner)]


def test_starting_late_gives_the_rest_of_the_pass() -> None:
    plan = Plan(1, 50, 8)
    late = [parts[0] for parts in plan.batches(4, start=3)]
    assert np.array_equal(late, whole(plan, 4)[3:])
    assert list(plan.batches(4, start=6)) == []


def test_batch_that_cannot_be_shared_is_refused_with_one_that_can() -> None:
    with pytest.raises(InputError, match=r"data\.batch_size: must be divisible by 8.*got 30; 24 would do"):
        Plan(0, 100, 30).batches(0, world=2, parts=2)
    with pytest.raises(InputError, match="there are only 30 training samples"):
        Plan(0, 30, 64).batches(0, world=2, parts=2)


@pytest.mark.parametrize(
    ("samples", "batch", "said"), [(0, 8, "no training sample"), (8, 0, "at least 1, got 0")]
)
def test_impossible_sizes_are_refused(samples: int, batch: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Plan(0, samples, batch)
