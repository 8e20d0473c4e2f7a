"""Erasing, RandAugment, interpolation and repeated views: each does what it says, and can be replayed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import tensor_samples, write_image
from PIL import Image

from limbeck.data import ImageViews, Loader, Plan, TensorViews
from limbeck.data.augmenting import augmentation
from limbeck.data.erasing import Erasing
from limbeck.data.keyed import keyed
from limbeck.data.mixing import Mix
from limbeck.data.sources import load
from limbeck.errors import InputError
from limbeck.knowledge import Batch

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


def test_boxes_are_as_timms_own_in_share_and_shape() -> None:
    from timm.data.random_erasing import RandomErasing

    theirs = torch.full((COUNT, 3, 20, 16), 0.2)
    with keyed(0, 0, 0):
        RandomErasing(1.0, device="cpu")(theirs)
    sizes, places = [], []
    for found in (erased(probability=1.0), (theirs != 0.2).any(1)):
        tall, wide = found.any(2).sum(1).double(), found.any(1).sum(1).double()
        aspect = tall.log() - wide.log()
        sizes.append(torch.stack([tall.mean(), wide.mean(), (tall * wide).mean(), tall.std(), aspect.std()]))
        places.append(found.double().mean(0))
    # Standard errors are 1 % of the sizes, and .01 of the share of the images in which a pixel is erased.
    torch.testing.assert_close(sizes[0], sizes[1], rtol=0.05, atol=0)
    torch.testing.assert_close(places[0], places[1], rtol=0, atol=0.05)


def test_each_pixel_of_the_noise_is_drawn_by_itself() -> None:
    noise = Erasing(1.0, area=(0.2, 0.3))(torch.full((300, 3, 24, 24), 9.0), INDEX[:300], 0, 0)
    values = (noise - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    known = noise != 9.0
    for by, dim in ((1, 3), (2, 3), (4, 3), (1, 2), (1, 1), (1, 0)):
        other, both = values.roll(by, dim), known & known.roll(by, dim)
        assert int(both.sum()) > 10_000
        assert abs(float((values * other)[both].mean())) < 0.03
    tails = values[known].abs()
    for limit, share in ((1.0, 0.3173), (2.0, 0.0455), (3.0, 0.0027)):
        assert float((tails > limit).float().mean()) == pytest.approx(share, rel=0.15)


def test_erasing_leaves_the_callers_images_alone() -> None:
    images = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    got = TensorViews(0, False, erase=1.0)(images, INDEX[:20], 0, 0)
    assert torch.equal(images, before)
    assert not torch.equal(got, before)


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
@pytest.mark.parametrize("text", ["randaugment", "rand-q7", "m7", "", 7])
def test_a_wrong_policy_says_what_one_looks_like(views: Any, text: Any) -> None:
    with pytest.raises(InputError, match=r"data\.views\.rand_augment: .*rand-m7-mstd0\.5"):
        views.make({"rand_augment": text})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("rand-foo", '"foo" is no part of rand'),  # timm passes over these …
        ("rand-m", '"m" is no part of rand'),
        ("rand-m7-mstd", '"mstd" is no part of rand'),
        ("rand-m7-", '"" is no part of rand'),
        ("rand-m7-m9", '"m" is there twice'),
        ("rand-tfoo", '"tfoo" is no part of rand'),  # … takes its usual operations for this …
        ("rand-m7.5", r'"m7\.5"'),
        ("rand-p1.5", r'"p1\.5"'),
        ("rand-inc2", '"inc2"'),
        ("rand-n99-tweights", '"n99"'),  # … and fails here at the first image.
        ("augmix-w0", '"w0" is no part of augmix.*w3'),
        ("augmix-a0", '"a0" is no part of augmix'),
        ("original-m7", '"m7" is no part of original'),
        ("origin", 'Did you mean "original"'),
    ],
)
def test_a_part_of_a_policy_that_timm_would_not_take_is_named(text: str, part: str) -> None:
    with pytest.raises(InputError, match=rf"data\.views\.rand_augment: .*{part}"):
        augmentation(text, 32)


POLICIES = ["rand-m7-mstd0.5", "rand-m9-n3-p0.8-mstd101-mmax12-inc1-tweights", "rand-n14-t3aw", "original"]
POLICIES += ["augmix-m5-w2-d2-a0.5-b1-mstd1", "augmix", "originalr-mstd0.5", "v0", "v0r", "3a"]


@pytest.mark.parametrize("text", POLICIES)
@pytest.mark.parametrize("interpolation", ["bilinear", "random"])
def test_policies_are_those_of_timms_own_training(text: str, interpolation: Any) -> None:
    from timm.data import create_transform

    views = ImageViews(32, (1.0, 1.0), flip=False, interpolation=interpolation, rand_augment=text)
    _, theirs, _ = create_transform(
        32,
        is_training=True,
        auto_augment=text,
        interpolation=interpolation,
        color_jitter=None,  # which timm has beside 3a and its kin, as a matter of its own
        separate=True,
    )
    change = augmentation(text, 32, interpolation=interpolation)
    changed = 0
    for turn in range(6):
        with keyed(0, 1, turn):
            expected = theirs(picture(32))
        with keyed(0, 1, turn):
            assert np.array_equal(change(picture(32)), expected)
        changed += not np.array_equal(picture(32), expected)
        with keyed(0, 2, turn):
            whole = views.train(picture())
        with keyed(0, 2, turn):
            part = replace(views, rand_augment=None).train(picture())
            after = change(Image.fromarray(part.permute(1, 2, 0).numpy()))
        assert np.array_equal(whole.permute(1, 2, 0), after)  # as the last of a photograph's transforms
    assert changed >= 3


def picture(side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


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


def test_each_sample_and_each_view_has_a_policy_of_its_own() -> None:
    images = torch.from_numpy(np.array(picture(16))).permute(2, 0, 1).repeat(12, 1, 1, 1)
    make = TensorViews(0, False, rand_augment="rand-m9-p1.0")
    for got in (
        make(images, INDEX[:12], 0, 0),
        make(images, INDEX[:12] * 0, INDEX[:12], 0),
        torch.cat([make(images[:1], INDEX[:1], 0, seed) for seed in range(12)]),
    ):
        assert len(got.flatten(1).unique(dim=0)) > 8


def test_grey_images_are_augmented_as_colour_ones_without_colour_are() -> None:
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(0, 256, (40, 1, 16, 12), dtype=torch.uint8, generator=generator)
    before = grey.clone()
    make = TensorViews(0, False, rand_augment="rand-m9-inc1")
    got, three = (make(images, INDEX[:40], 0, 0) for images in (grey, grey.repeat(1, 3, 1, 1)))
    assert torch.equal(grey, before)
    filled = (three[:, :1] != three[:, 1:2]).any(1, keepdim=True)  # with ImageNet's mean, which has a colour
    assert float((got - three[:, :1]).abs()[~filled].max()) <= 2 / 255
    assert float(filled.float().mean()) < 0.2


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


class Noisy:
    """Items of bytes that draw from the global generators, as people's own transforms do."""

    classes = ("a", "b")

    def __len__(self) -> int:
        return 20

    def __getitem__(self, number: int) -> tuple[np.ndarray, int]:
        return np.random.randint(0, 256, (9, 12, 3)).astype(np.uint8), number % 2


def test_items_of_ones_own_data_set_are_augmented_too(tmp_path: Path) -> None:
    (tmp_path / "noisy_set.py").write_text(
        "import sys\n\ndef make():\n    return sys.modules['test_data_augmenting'].Noisy()\n"
    )
    erase = {"probability": 1.0, "value": "zero"}
    options = {"crop": 2, "flip": True, "rand_augment": "rand-m9", "erase": erase}
    plain = load("py:noisy_set:make", beside=tmp_path).train
    made = load("py:noisy_set:make", beside=tmp_path, views=options).train
    index, views = np.arange(len(made)), np.arange(len(made)) % 3
    expected = (plain.take(index, views, 4).input * 255).round().to(torch.uint8)
    got = made.take(index, views, 4).input
    assert torch.equal(got, TensorViews(**options)(expected, index, views, 4))
    assert not torch.equal(got, plain.take(index, views, 4).input)


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


@pytest.mark.parametrize("workers", [0, 1])
def test_the_whole_recipe_of_photographs_can_be_replayed(tmp_path: Path, workers: int) -> None:
    """From the middle of a pass, by workers, on two processes and in two parts: the same batches."""
    for number in range(24):
        write_image(tmp_path / "train" / "ab"[number % 2] / f"{number}.png", seed=number, side=20 + number)
        write_image(tmp_path / "val" / "ab"[number % 2] / f"{number}.png", seed=number)
    views = {"size": 14, "interpolation": "random", "rand_augment": "rand-m7-mstd0.5", "erase": 0.5}
    samples = load(f"folder:{tmp_path}", views=views).train
    plan, mix = Plan(2, len(samples), 8, repeats=3), Mix(mixup=0.2, cutmix=1.0, mode="elem")
    _, whole, _ = [step[0] for step in Loader(samples, plan, mix=mix).steps(1)]
    assert isinstance(whole.input, torch.Tensor)
    rows = {}
    for rank in range(2):
        loader = Loader(samples, plan, rank=rank, world=2, parts=2, workers=workers, mix=mix)
        for part in next(loader.steps(1, start=1)):
            for row, key in enumerate(keys(part)):
                rows[key] = part.input[row], part.target[row]  # type: ignore[index]
    assert len(rows) == 8
    for place, key in enumerate(keys(whole)):
        assert torch.equal(rows[key][0], whole.input[place])
        assert torch.equal(rows[key][1], whole.target[place])  # type: ignore[index]


def keys(batch: Batch) -> list[tuple[int, int]]:
    """Number and view of each sample."""
    assert batch.index is not None
    assert batch.view is not None
    return list(zip(batch.index.tolist(), batch.view.tolist(), strict=True))


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
