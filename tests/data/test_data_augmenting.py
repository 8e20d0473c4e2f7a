"""Erasing, RandAugment, interpolation and repeated views: each does what it says, and can be replayed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import tensor_samples, write_image
from PIL import Image

from limbeck.data import ImageViews, Loader, Plan, TensorViews
from limbeck.data.erasing import Erasing
from limbeck.data.keyed import keyed
from limbeck.data.sources import load
from limbeck.errors import InputError

COUNT = 3000
INDEX = np.arange(COUNT, dtype=np.int64)


def erased(**options: Any) -> torch.Tensor:
    """Which pixels of 3000 images were erased, [N, H, W]."""
    images = torch.full((COUNT, 3, 20, 16), 0.2)
    made = Erasing(**options)(images.clone(), INDEX, 0, seed=1)
    return (made != images).any(1)


def test_erasing_happens_at_its_probability_and_within_its_area() -> None:
    found = erased(probability=0.3, area=(0.1, 0.2))
    share = found.float().mean((1, 2))
    assert float((share > 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    some = share[share > 0]
    # The sides are rounded to pixels.
    assert float(some.min()) > 0.07
    assert float(some.max()) < 0.25
    assert float(some.mean()) == pytest.approx(0.15, abs=0.01)


def test_what_is_erased_is_one_rectangle_anywhere() -> None:
    found = erased(probability=1.0)
    tops = set()
    for image in found[:200]:
        if not image.any():
            continue
        rows, columns = image.any(1).nonzero().flatten(), image.any(0).nonzero().flatten()
        assert int(image.sum()) == len(rows) * len(columns)
        assert int(rows[-1] - rows[0]) == len(rows) - 1
        tops.add((int(rows[0]), int(columns[0])))
    assert len(tops) > 60
    where = found.float().mean(0)
    assert float(where.min()) > 0.001  # every place is reached


def test_what_fills_it() -> None:
    images = torch.zeros(200, 3, 32, 32)
    zero = Erasing(1.0, "zero")(images.clone(), INDEX[:200], 0, 0)
    assert {round(float(v), 3) for v in zero[:, 0].unique()} == {0.0, 0.485}
    noise = Erasing(1.0, "random")(images.clone(), INDEX[:200], 0, 0)
    seen = (noise - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    values = seen[(noise != 0)]
    assert float(values.mean()) == pytest.approx(0, abs=0.02)
    assert float(values.std()) == pytest.approx(1, abs=0.02)


def test_erasing_depends_on_seed_sample_and_view_alone() -> None:
    images = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    made = Erasing(0.5)
    whole = made(images.clone(), INDEX[:40], INDEX[:40] % 3, 9)
    for number in (3, 17):
        one = slice(number, number + 1)
        assert torch.equal(made(images[one].clone(), INDEX[one], number % 3, 9)[0], whole[number])
    assert not torch.equal(made(images.clone(), INDEX[:40], 5, 9), whole)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (1.5, r"data\.views\.erase: must be a number from 0 to 1, got 1\.5"),
        ({"probability": -1}, r"data\.views\.erase\.probability"),
        ({"value": "noise"}, r"data\.views\.erase\.value"),
        ({"area": [0.5, 0.1]}, "least and greatest"),
        ({"probabilty": 0.5}, '"probability"'),
    ],
)
@pytest.mark.parametrize("views", [ImageViews, TensorViews])
def test_bad_erasing_is_refused(given: Any, message: str, views: Any) -> None:
    with pytest.raises(InputError, match=message):
        views.make({"erase": given})


@pytest.mark.parametrize("views", [ImageViews, TensorViews])
@pytest.mark.parametrize("text", ["randaugment", "rand-q7", "m7", ""])
def test_a_wrong_policy_says_what_one_looks_like(views: Any, text: str) -> None:
    with pytest.raises(InputError, match=r"data\.views\.rand_augment: .*rand-m7-mstd0\.5"):
        views.make({"rand_augment": text})


def picture(side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def seen(views: ImageViews, turn: int) -> torch.Tensor:
    with keyed(0, 1, turn):
        return views.train(picture())


def test_rand_augment_is_timms() -> None:
    from timm.data.auto_augment import rand_augment_transform

    text = "rand-m7-mstd0.5"
    views = ImageViews(32, scale=(1.0, 1.0), flip=False, rand_augment=text)
    plain = ImageViews(32, scale=(1.0, 1.0), flip=False)
    theirs = rand_augment_transform(text, {"translate_const": 14, "img_mean": (124, 116, 104)})
    changed = 0
    for turn in range(12):
        with keyed(0, 1, turn):
            part = Image.fromarray(plain.train(picture()).permute(1, 2, 0).numpy())
            expected = np.asarray(theirs(part))
        got = seen(views, turn)
        assert np.array_equal(got.permute(1, 2, 0).numpy(), expected)
        changed += not torch.equal(got, seen(plain, turn))
    assert changed > 6


def test_random_interpolation_takes_either_for_each_view() -> None:
    options = {"size": 24, "scale": (1.0, 1.0), "flip": False}
    drawn = {"bilinear": 0, "bicubic": 0}
    both = ImageViews(**options, interpolation="random")  # type: ignore[arg-type]
    whole = picture(48)
    from torchvision.transforms import v2

    for turn in range(60):
        with keyed(0, 2, turn):
            got = both.train(whole)
        with keyed(0, 2, turn):
            # RandomChoice draws first; the part is cut with what follows.
            torch.rand(1)
            top, left, height, width = (
                v2.RandomResizedCrop(24, scale=(1.0, 1.0)).make_params([whole]).values()
            )
        for name in drawn:
            mode = v2.InterpolationMode(name)
            cut = v2.functional.resized_crop(
                whole, top, left, height, width, [24, 24], interpolation=mode, antialias=True
            )
            drawn[name] += torch.equal(v2.functional.pil_to_tensor(cut), got)
    assert sum(drawn.values()) == 60
    assert min(drawn.values()) > 15


def test_bicubic_is_for_evaluation_too() -> None:
    found = [ImageViews(16, interpolation=name).test(picture()) for name in ("bilinear", "bicubic", "random")]  # type: ignore[arg-type]
    assert not torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("channels", [1, 3])
def test_small_images_are_augmented_and_erased_too(channels: int) -> None:
    images = torch.randint(
        0, 256, (60, channels, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    before = images.clone()
    plain = TensorViews()(images, INDEX[:60], 3, 1)
    made = TensorViews(rand_augment="rand-m9", erase=0.5)
    got = made(images, INDEX[:60], 3, 1)
    assert torch.equal(images, before)
    assert int((got != plain).flatten(1).any(1).sum()) > 40
    assert torch.equal(made(images[7:8], INDEX[7:8], 3, 1)[0], got[7])  # whatever else is in the batch


def test_floats_cannot_be_rand_augmented() -> None:
    with pytest.raises(InputError, match="needs images of bytes"):
        TensorViews(rand_augment="rand-m9")(torch.rand(2, 3, 8, 8), INDEX[:2], 0, 0)


def test_photographs_are_erased_in_training_alone(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for number in range(4):
            write_image(tmp_path / split / "a" / f"{number}.png", seed=number)
            write_image(tmp_path / split / "b" / f"{number}.png", seed=9 + number)
    views = {"size": 16, "scale": [1.0, 1.0], "flip": False}
    plain = load(f"folder:{tmp_path}", views=views)
    erasing = load(f"folder:{tmp_path}", views={**views, "erase": {"probability": 1.0, "value": "zero"}})
    index = np.arange(8)
    assert not torch.equal(plain.train.take(index, 0, 0).input, erasing.train.take(index, 0, 0).input)
    assert torch.equal(plain.test.take(index, None, 0).input, erasing.test.take(index, None, 0).input)


# Repeated augmentation


def test_each_sample_comes_several_times_as_different_views() -> None:
    samples = tensor_samples(60, views=TensorViews(crop=3))
    loader = Loader(samples, Plan(1, 60, 12, repeats=3))
    assert len(loader) == 5  # a pass is as long as ever
    seen_views = set()
    for turn in range(2):
        for (batch,) in loader.steps(turn):
            assert batch.index is not None
            assert batch.view is not None
            numbers = batch.index.view(4, 3)
            assert bool((numbers == numbers[:, :1]).all())  # three in a row …
            assert len(numbers[:, 0].unique()) == 4
            images = batch.input.view(4, 3, -1)  # type: ignore[union-attr]
            different = [len({tuple(v.tolist()) for v in group}) for group in images]
            assert sum(different) >= 10  # … that differ (49 shifts, two ways: seldom twice the same)
            seen_views |= set(zip(batch.index.tolist(), batch.view.tolist(), strict=True))
    assert len(seen_views) == 2 * 60  # no view of a sample comes twice, in this pass or the next


def test_one_repeat_is_the_plain_plan() -> None:
    one, plain = Plan(3, 50, 10, repeats=1), Plan(3, 50, 10)
    for (a,), (b,) in zip(one.shares(4), plain.shares(4), strict=True):
        assert a.index.tolist() == b.index.tolist()
        assert a.view.tolist() == [4] * 10


def test_a_pass_sees_a_third_of_the_samples_and_another_third_next_time() -> None:
    plan = Plan(3, 90, 30, repeats=3)
    passes = [{n for step in plan.batches(turn) for n in step[0].tolist()} for turn in range(2)]
    assert [len(found) for found in passes] == [30, 30]
    assert passes[0] != passes[1]


def test_two_processes_see_the_batch_of_one() -> None:
    plan = Plan(3, 90, 24, repeats=3)
    for turn in range(2):
        shared = [list(plan.shares(turn, rank=rank, world=2)) for rank in range(2)]
        for step, (whole,) in enumerate(plan.shares(turn)):
            parts = [shared[rank][step][0] for rank in range(2)]
            pairs = sorted((n, v) for part in parts for n, v in zip(part.index, part.view, strict=True))
            assert pairs == sorted(zip(whole.index, whole.view, strict=True))


def test_no_repeat_at_all_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.repeats: must be at least 1, got 0"):
        Plan(0, 10, 5, repeats=0)
