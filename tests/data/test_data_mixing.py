"""Mixup and cutmix: as timm mixes, whatever the mode, and the same however a batch is shared out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_data import tensor_samples as made_samples
from torch import Tensor

from limbeck.data.loader import Loader
from limbeck.data.mixing import Mix, _boxes
from limbeck.data.plans import Plan, Share
from limbeck.data.samples import TensorSamples
from limbeck.errors import InputError
from limbeck.recipe import Recipe

CLASSES = 4


def share(batch: int = 8, step: int = 0, turn: int = 0) -> Share:
    numbers = np.arange(batch, dtype=np.int64)
    return Share(numbers, numbers * 0 + turn, numbers, batch, step, turn)


def images(batch: int = 8, side: int = 12) -> Tensor:
    return torch.rand(batch, 3, side, side + 3, generator=torch.Generator().manual_seed(1))


def labels(batch: int = 8) -> Tensor:
    return torch.arange(batch) % CLASSES


ALL: list[dict[str, Any]] = [
    {**kind, "mode": mode}
    for mode in ("batch", "pair", "elem")
    for kind in (
        {"mixup": 0.4},
        {"mixup": 0.4, "probability": 0.6},
        {"cutmix": 1.0},
        {"mixup": 0.4, "cutmix": 1.0, "switch": 0.7},
    )
]


@pytest.mark.parametrize("options", ALL, ids=str)
@pytest.mark.parametrize("step", range(4))
def test_as_timm_mixes_with_the_same_draws(
    options: dict[str, Any], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from timm.data import mixup

    mix = Mix(**options)
    x, y, where = images(), labels(), share(step=step)
    kept, boxes, weights = mix.drawn(where, 5, *x.shape[2:])
    got, target = mix(x.clone(), y, where, 5, CLASSES)
    cut = (weights == 1) & (kept < 1)
    theirs = mixup.Mixup(0.4, 1.0, mode=options["mode"], label_smoothing=0.0, num_classes=CLASSES)
    each = {"batch": 1, "pair": 4, "elem": 8}[options["mode"]]
    called = iter(np.flatnonzero(cut[:each]))
    # timm asks for a box of each sample that is cut; ours are put in the place of its draws.
    monkeypatch.setattr(
        mixup, "cutmix_bbox_and_lam", lambda *_, **__: (lambda n: (tuple(boxes[n]), kept[n]))(next(called))
    )
    if options["mode"] == "batch":
        monkeypatch.setattr(theirs, "_params_per_batch", lambda: (kept[0], bool(cut[0])))
    else:
        monkeypatch.setattr(
            theirs,
            "_params_per_elem",
            lambda count: (kept[:count].astype(np.float32), cut[:count]),
        )
    expected, shares = theirs(x.clone(), y)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(target, shares.float(), atol=1e-6, rtol=1e-5)


def test_the_draws_follow_their_distributions() -> None:
    mix = Mix(mixup=0.5, cutmix=1.0, probability=0.8, switch=0.3, mode="elem")
    kept, boxes, weights = mix.drawn(share(20_000), 3, 64, 64)
    cut, untouched = weights == 1, weights == 0
    assert (kept[untouched] == 1).all()
    assert untouched.mean() == pytest.approx(0.2, abs=0.02)
    assert cut.mean() == pytest.approx(0.8 * 0.3, abs=0.02)
    mixed = kept[~cut & ~untouched]
    assert mixed.mean() == pytest.approx(0.5, abs=0.02)
    assert mixed.var() == pytest.approx(0.125, abs=0.01)  # Beta(.5, .5)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2]) / 64**2
    np.testing.assert_allclose(kept[cut], 1 - area[cut])
    assert (area[~cut & ~untouched] == 1).all()


def test_boxes_are_timms_for_the_same_share_and_centre(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.data import mixup

    random = np.random.default_rng(0)
    kept, y, x = random.random((3, 300))
    got = _boxes(kept, y, x, 13, 20)
    for number in range(300):
        centre = iter([int(13 * y[number]), int(20 * x[number])])
        monkeypatch.setattr(mixup.np.random, "randint", lambda *_, **__: next(centre))  # noqa: B023
        assert got[number].tolist() == list(mixup.rand_bbox((3, 13, 20), kept[number]))


def test_the_modes_draw_as_often_as_they_say() -> None:
    for mode, count in (("batch", 1), ("pair", 4), ("elem", 8)):
        kept, *_ = Mix(mixup=1.0, mode=mode).drawn(share(), 0, 8, 8)  # type: ignore[arg-type]
        assert len(set(kept.tolist())) == count
        if mode == "pair":
            assert kept.tolist() == kept.tolist()[::-1]


def test_steps_passes_and_seeds_draw_apart() -> None:
    mix = Mix(mixup=1.0)
    drawn = {
        float(mix.drawn(share(step=step, turn=turn), seed, 8, 8)[0][0])
        for step in range(5)
        for turn in range(5)
        for seed in range(3)
    }
    assert len(drawn) == 75


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize(("world", "parts"), [(2, 1), (1, 2), (2, 2)])
def test_the_same_batch_however_it_is_shared_out(mode: Any, world: int, parts: int) -> None:
    samples = made_samples(40)
    plan = Plan(7, len(samples), 16, repeats=3)
    mix = Mix(mixup=0.3, cutmix=1.0, mode=mode)
    whole = [step[0] for step in Loader(samples, plan, mix=mix).steps(1)]
    for rank in range(world):
        loader = Loader(samples, plan, rank=rank, world=world, parts=parts, mix=mix)
        for step, shares in enumerate(loader.steps(1)):
            assert len(shares) == parts
            for part in shares:
                for row in range(len(part)):
                    same = (whole[step].index == part.index[row]) & (whole[step].view == part.view[row])
                    (place,) = torch.nonzero(same)
                    assert torch.equal(whole[step].input[place[0]], part.input[row])
                    assert torch.equal(whole[step].target[place[0]], part.target[row])


def test_workers_and_a_resumed_pass_make_the_same_mixes() -> None:
    samples = made_samples(40)
    plan = Plan(7, len(samples), 8, repeats=2)
    mix = Mix(cutmix=1.0, mode="elem")
    plain = list(Loader(samples, plan, mix=mix).steps(2))
    worked = list(Loader(samples, plan, mix=mix, workers=1).steps(2, start=2))
    assert len(worked) == len(plain) - 2
    for (one,), (other,) in zip(plain[2:], worked, strict=True):
        assert torch.equal(one.input, other.input)
        assert torch.equal(one.target, other.target)


def test_samples_without_a_label_bring_no_share() -> None:
    target = torch.tensor([0, -1, 2, -1, 1, 0, 3, -1])
    mix = Mix(mixup=1.0)
    where = share()
    kept = float(mix.drawn(where, 0, 12, 15)[0][0])
    _, shares = mix(images(), target, where, 0, CLASSES)
    known = (target >= 0).float()
    torch.testing.assert_close(shares.sum(1), kept * known + (1 - kept) * known.flip(0))


def test_a_mix_that_does_not_happen_still_gives_shares() -> None:
    """So that a compiled step sees one shape."""
    x = images()
    got, shares = Mix(mixup=1.0, probability=0.0)(x.clone(), labels(), share(), 0, CLASSES)
    assert torch.equal(got, x)
    assert torch.equal(shares, torch.nn.functional.one_hot(labels(), CLASSES).float())


@pytest.mark.parametrize("batch", [1, 7])
def test_odd_batches_leave_the_middle_alone(batch: int) -> None:
    x = images(batch)
    got, shares = Mix(mixup=1.0)(x.clone(), labels(batch), share(batch), 0, CLASSES)
    torch.testing.assert_close(got[batch // 2], x[batch // 2])
    torch.testing.assert_close(shares.sum(1), torch.ones(batch))


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_grey_images_that_are_not_square_in_odd_batches(mode: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (30, 1, 5, 9), dtype=torch.uint8, generator=generator)
    samples = TensorSamples(images=pixels, targets=torch.arange(30) % CLASSES, classes=tuple("abcd"))
    plan = Plan(0, 30, 7)
    plain, mixed = Loader(samples, plan), Loader(samples, plan, mix=Mix(cutmix=1.0, mode=mode))
    for (one,), (other,) in zip(plain.steps(0), mixed.steps(0), strict=True):
        assert isinstance(one.input, Tensor)
        assert isinstance(other.input, Tensor)
        assert one.target is not None
        assert other.target is not None
        assert other.input.shape == (7, 1, 5, 9)
        assert torch.equal(other.input[3], one.input[3])
        # Each pixel is the sample's own or its partner's, in the shares that the label says.
        own = (other.input == one.input).flatten(1)
        assert bool((own | (other.input == one.input.flip(0)).flatten(1)).all())
        kept = other.target.gather(1, one.target[:, None])[:, 0]
        apart = one.target != one.target.flip(0)
        # Some of the partners' pixels are the same by chance.
        torch.testing.assert_close(own.float().mean(1)[apart], kept[apart], atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of mixup and cutmix must be above 0"),
        ({"mixup": -1}, r"data\.mix\.mixup: must be a number from 0 to 1000"),
        ({"mixup": 1, "probability": 2}, r"data\.mix\.probability"),
        ({"mixup": 1, "mode": "elme"}, r'data\.mix\.mode.*"elem"'),
        ({"mixp": 1}, r'data\.mix.*"mixup"'),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Mix.make(options)


def test_a_method_that_needs_classes_refuses_mixed_ones_when_the_recipe_is_read() -> None:
    recipe = {
        "name": "mixed",
        "teacher": {"model": "cifar:resnet8", "blank": True},
        "student": {"model": "cifar:resnet8"},
        "data": {"source": "digits", "mix": {"mixup": 0.2}},
        "objective": {"cross_entropy": 1, "dkd": 1},
        "train": {"epochs": 1},
    }
    with pytest.raises(InputError, match=r"objective\.dkd: .*data\.mix mixes them"):
        Recipe.from_dict(recipe)
    assert Recipe.from_dict({**recipe, "objective": {"cross_entropy": 1, "kd": 1}}).data.mix is not None


def test_a_run_mixes_and_repeats_as_its_recipe_says(tmp_path: Path) -> None:
    import limbeck

    recipe = Recipe.from_dict(
        {
            "name": "mixed",
            "teacher": None,
            "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
            "data": {"source": "digits", "batch_size": 50, "samples": 100, "repeats": 3},
            "objective": {"cross_entropy": 1},
            "control": False,
            "train": {"epochs": 2, "optimizer": {"lr": 0.05}},
            "export": {"formats": []},
        }
    )
    found = {}
    for name, key in (("plain", "null"), ("mixed", "{mixup: 1.0, cutmix: 1.0}")):
        data = Recipe.from_dict(recipe.dump(), overrides=[f"data.mix={key}"])
        limbeck.run(data, out=tmp_path / name)
        found[name] = (tmp_path / name / "metrics.jsonl").read_text()
    assert found["plain"] != found["mixed"]
