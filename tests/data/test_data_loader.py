"""Samples and loaders: the same batches whatever the workers, processes and interruptions."""

import multiprocessing
import os
import random
import signal

import numpy as np
import pytest
import torch
from made_data import tensor_samples

from limbeck.data import ItemSamples, Loader, Plan, TensorSamples, TensorViews, evaluation_batches
from limbeck.errors import InputError
from limbeck.knowledge import Batch


class Restless:
    """Items that use every global generator, as people's transforms do."""

    def __init__(self, count: int, broken: int = -1) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> torch.Tensor:
        if number == self.broken:
            raise InputError(f"data: the image {number}.png cannot be read")
        noise = torch.rand(1, 4, 4) + random.random() + float(np.random.rand())
        return noise / 3


def same(item: torch.Tensor) -> torch.Tensor:
    return item


def restless(count: int = 30, broken: int = -1, shape: tuple[int, int] = (4, 4)) -> ItemSamples:
    return ItemSamples(
        items=Restless(count, broken),
        train=same,
        test=same,
        numbers=np.arange(count),
        targets=torch.arange(count) % 3,
        classes=("a", "b", "c"),
        channels=1,
        size=shape,
    )


def equal(one: Batch, other: Batch) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("input", "target", "index", "view")]
    return all((a is None and b is None) or torch.equal(a, b) for a, b in pairs)


def passes(loader: Loader, *views: int) -> list[Batch]:
    return [batch for view in views for step in loader.steps(view) for batch in step]


def test_a_batch_says_what_it_holds() -> None:
    samples = tensor_samples(views=TensorViews(crop=1))
    batch = samples.take(np.array([5, 3]), 7, seed=0)
    assert batch.input.shape == (2, 3, 8, 8)
    assert batch.input.dtype == torch.float32
    assert batch.target.tolist() == [1, 3]
    assert batch.index.tolist() == [5, 3]
    assert batch.view.tolist() == [7, 7]
    assert all(t.dtype == torch.int64 for t in (batch.target, batch.index, batch.view))


def test_evaluation_sees_the_plain_image() -> None:
    samples = tensor_samples(views=TensorViews(crop=3))
    batch = samples.take(np.array([4]), None, seed=0)
    assert torch.equal(batch.input[0], samples.images[4].float() / 255)
    assert batch.view is None


def test_loader_gives_views_of_the_planned_samples() -> None:
    samples, plan = tensor_samples(views=TensorViews(crop=2)), Plan(3, 40, 16)
    for view in (0, 1):
        for (batch,), (index,) in zip(Loader(samples, plan).steps(view), plan.batches(view), strict=True):
            assert equal(batch, samples.take(index, view, seed=3))


@pytest.mark.parametrize("samples", [tensor_samples(30, views=TensorViews(crop=2)), restless()])
def test_workers_change_nothing(samples: TensorSamples | ItemSamples) -> None:
    plan = Plan(0, 30, 8)
    alone, helped = Loader(samples, plan, parts=2), Loader(samples, plan, parts=2, workers=2)
    # The last pass is the first one again: workers that live on keep no state.
    for one, other in zip(passes(alone, 0, 1, 0), passes(helped, 0, 1, 0), strict=True):
        assert equal(one, other)
    for one, other in zip(
        evaluation_batches(samples, 7), evaluation_batches(samples, 7, workers=2), strict=True
    ):
        assert equal(one, other)


def test_a_pass_that_was_left_half_way_does_not_disturb_the_next() -> None:
    samples, plan = restless(), Plan(0, 30, 4)
    helped = Loader(samples, plan, workers=2)
    left = helped.steps(0)
    next(left)
    expected = passes(Loader(samples, plan), 1)
    assert all(equal(a, b) for a, b in zip(passes(helped, 1), expected, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_pass_is_the_rest_of_the_whole_one(workers: int) -> None:
    samples, plan = restless(), Plan(5, 30, 4)
    rest = [batch for step in Loader(samples, plan, workers=workers).steps(2, start=3) for batch in step]
    assert all(equal(a, b) for a, b in zip(rest, passes(Loader(samples, plan), 2)[3:], strict=True))


@pytest.mark.skipif(os.name != "posix", reason="signals of a group of processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_being_stopped_to_their_parent(number: signal.Signals) -> None:
    """Ctrl-C and a polite kill reach the whole group; the step that runs must still get its batch."""
    samples, plan = restless(), Plan(5, 30, 2)
    before = multiprocessing.active_children()
    steps = Loader(samples, plan, workers=1).steps(0)
    found = [next(steps)]
    for worker in multiprocessing.active_children():
        if worker not in before and worker.pid is not None:
            os.kill(worker.pid, number)
    found += steps
    expected = passes(Loader(samples, plan), 0)
    assert all(equal(a, b) for (a,), b in zip(found, expected, strict=True))


def test_processes_together_see_what_one_sees() -> None:
    samples, plan = restless(), Plan(0, 30, 12)
    one = passes(Loader(samples, plan), 0)
    two = [passes(Loader(samples, plan, rank=rank, world=2), 0) for rank in (0, 1)]
    for whole, first, second in zip(one, *two, strict=True):
        merged = {int(i): x for half in (first, second) for i, x in zip(half.index, half.input, strict=True)}
        assert len(merged) == 12
        for number, image in zip(whole.index, whole.input, strict=True):
            assert torch.equal(merged[int(number)], image)


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_leaves_the_global_generators_alone(workers: int) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    passes(Loader(restless(), Plan(0, 30, 10), workers=workers), 0)
    list(evaluation_batches(restless(), 10, workers=workers))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("count", "world"), [(10, 1), (10, 3), (7, 2), (2, 3)])
def test_evaluation_counts_every_sample_once(count: int, world: int) -> None:
    samples = tensor_samples(count)
    seen = [
        batch.index
        for rank in range(world)
        for batch in evaluation_batches(samples, 2, rank=rank, world=world)
    ]
    assert torch.cat(seen).tolist() == list(range(count))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_sample_is_one_clear_message(workers: int) -> None:
    loader = Loader(restless(broken=4), Plan(0, 30, 10), workers=workers)
    with pytest.raises(InputError) as caught:
        passes(loader, 0)
    assert str(caught.value) == "data: the image 4.png cannot be read"


def test_an_image_of_another_shape_is_named() -> None:
    with pytest.raises(InputError, match=r"sample 2 has the shape \[1, 4, 4\], others have \[1, 5, 5\]"):
        restless(shape=(5, 5)).take(np.array([2]), 0, seed=0)


@pytest.mark.parametrize("samples", [tensor_samples(30), restless()])
def test_a_subset_is_numbered_anew(samples: TensorSamples | ItemSamples) -> None:
    part = samples.subset([9, 4, 20])
    assert len(part) == 3
    assert repr(part).startswith(f"{type(samples).__name__}(3 of ")
    assert part.targets.tolist() == samples.targets[[9, 4, 20]].tolist()
    assert part.take(np.array([1]), None, 0).index.tolist() == [1]
    if isinstance(samples, TensorSamples):
        assert torch.equal(
            part.take(np.array([1]), None, 0).input, samples.take(np.array([4]), None, 0).input
        )


def test_fingerprint_follows_content_and_not_views() -> None:
    plain = tensor_samples()
    assert plain.hash() == tensor_samples(views=TensorViews()).hash()
    images = plain.images.clone()
    images[3, 0, 0, 0] += 1
    changed = TensorSamples(images=images, targets=plain.targets, classes=plain.classes)
    assert len({plain.hash(), changed.hash(), plain.subset(range(39)).hash(), restless().hash()}) == 4
    assert plain.hash() != plain.relabelled(plain.targets.flip(0)).hash()
    assert restless().hash() != restless().subset(range(29)).hash()


@pytest.mark.parametrize("label", [-2, 4])
def test_labels_out_of_range_are_refused(label: int) -> None:
    samples = tensor_samples()
    targets = samples.targets.clone()
    targets[6] = label
    with pytest.raises(InputError, match=f"sample 6 has the label {label}; labels must be from 0 to 3"):
        samples.relabelled(targets)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"one for each of 3 labels; got \[3, 8, 8\]"):
        TensorSamples(images=torch.zeros(3, 8, 8), targets=torch.zeros(3), classes=("a",))
    with pytest.raises(InputError, match="one class index a sample"):
        TensorSamples(images=torch.zeros(3, 1, 8, 8), targets=torch.zeros(3, 2), classes=("a",))
    with pytest.raises(InputError, match=r"data\.views\.crop: must be at most the image's side, 8"):
        tensor_samples(views=TensorViews(crop=9))


def test_a_plan_for_other_samples_is_refused() -> None:
    with pytest.raises(InputError, match="the plan is for 41 samples, there are 40"):
        Loader(tensor_samples(), Plan(0, 41, 8))
