"""Batches made on a device: bit for bit those of the CPU, and nothing waits for the device.

On a machine with an accelerator the same comparisons run there too.
"""

import multiprocessing
import re
from typing import Any

import numpy as np
import pytest
import torch
from made_data import tensor_samples

from limbeck.data import ItemSamples, Loader, Mix, Plan, TensorSamples, TensorViews, on_device
from limbeck.data.on_device import DeviceSamples, fits
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED, Batch

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
META = torch.device("meta")
"""A device without memory: whatever would have to wait for a value of it is an error."""

ERASE = {"probability": 0.7, "value": "zero"}
VIEWS: list[dict[str, Any] | None] = [
    None,
    {"crop": 0, "flip": False},
    {"crop": 0},
    {"crop": 7, "flip": False},
    {},
    {"erase": ERASE},
    {"crop": 0, "flip": False, "erase": ERASE},
]
MIXES: list[dict[str, Any]] = [
    {**kind, "mode": mode}
    for mode in ("batch", "pair", "elem")
    for kind in (
        {"mixup": 0.4, "probability": 0.7},
        {"cutmix": 1.0, "probability": 0.7},
        {"mixup": 0.4, "cutmix": 1.0},
        {"mixup": 1.0, "probability": 0.0},
    )
]


def samples(views: dict[str, Any] | None, channels: int = 3, floats: bool = False) -> TensorSamples:
    """40 images of C x 9 x 7, some of them without a label."""
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (40, channels, 9, 7), dtype=torch.uint8, generator=generator)
    return TensorSamples(
        images=torch.rand(images.shape, generator=generator) if floats else images,
        targets=torch.where(torch.arange(40) % 5 == 3, UNLABELLED, torch.arange(40) % 4),
        classes=tuple("abcd"),
        views=None if views is None else TensorViews(**views),
    )


def assert_same(got: Batch, expected: Batch, device: str) -> None:
    for name in ("input", "target", "index", "view"):
        one, other = getattr(got, name), getattr(expected, name)
        if other is None:
            assert one is None
        else:
            assert one.device.type == device
            assert one.dtype == other.dtype
            assert torch.equal(one.cpu(), other), name


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(("channels", "floats"), [(1, False), (3, False), (1, True), (3, True)])
@pytest.mark.parametrize("views", VIEWS, ids=str)
def test_views_are_those_of_the_cpu(
    views: dict[str, Any] | None, channels: int, floats: bool, channels_last: bool, device: str
) -> None:
    here = samples(views, channels, floats)
    there = DeviceSamples(here, torch.device(device), channels_last=channels_last)
    index = np.arange(100, dtype=np.int64) * 13 % 40
    order = torch.channels_last if channels_last else torch.contiguous_format
    for view, seed in ((0, 0), (-3, 2**40), (index // 3 - 5, -1), (None, 0)):
        got = there.take(index, view, seed)
        assert_same(got, here.take(index, view, seed), device)
        assert isinstance(got.input, torch.Tensor)
        assert got.input.is_contiguous(memory_format=order)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("batch", "shares"),
    [(12, {}), (7, {}), (1, {}), (16, {"world": 2}), (16, {"world": 2, "parts": 2})],
    ids=str,
)
@pytest.mark.parametrize("mix", MIXES, ids=str)
def test_mixes_are_those_of_the_cpu(
    mix: dict[str, Any], batch: int, shares: dict[str, int], device: str
) -> None:
    here, plan, made = samples({"erase": ERASE}), Plan(5, 40, batch, repeats=3), Mix(**mix)
    for rank in range(shares.get("world", 1)):
        plain = Loader(here, plan, rank=rank, **shares, mix=made)
        moved = Loader(
            here, plan, rank=rank, **shares, mix=made, device=torch.device(device), channels_last=True
        )
        for one, other in zip(moved.steps(2, start=1), plain.steps(2, start=1), strict=True):
            for got, expected in zip(one, other, strict=True):
                assert_same(got, expected, device)
                assert isinstance(got.input, torch.Tensor)
                assert got.input.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "floats"), [(1, False), (3, True)])
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_grey_and_float_images_are_mixed_too(mode: Any, channels: int, floats: bool) -> None:
    here, plan = samples({}, channels, floats), Plan(1, 40, 10)
    mix = Mix(mixup=0.3, cutmix=1.0, mode=mode)
    plain, moved = Loader(here, plan, mix=mix), Loader(here, plan, mix=mix, device=torch.device("cpu"))
    for (got,), (expected,) in zip(moved.steps(0), plain.steps(0), strict=True):
        assert_same(got, expected, "cpu")


def test_images_that_are_sent_in_pieces_all_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_device, "_AT_ONCE", 7)
    here, index = samples({}), np.arange(40)
    assert_same(DeviceSamples(here, torch.device("cpu")).take(index, 1, 0), here.take(index, 1, 0), "cpu")


@pytest.mark.parametrize("mix", [None, *MIXES], ids=str)
@pytest.mark.parametrize("views", [None, {"erase": ERASE}], ids=str)
def test_nothing_waits_for_the_device(views: dict[str, Any] | None, mix: dict[str, Any] | None) -> None:
    made = None if mix is None else Mix(**mix)
    batches = [step[0] for step in Loader(samples(views), Plan(0, 40, 8), mix=made, device=META).steps(0)]
    assert len(batches) == 5
    for batch in batches:
        assert isinstance(batch.input, torch.Tensor)
        assert batch.target is not None
        assert batch.input.device == batch.target.device == META
        assert batch.input.shape == (8, 3, 9, 7)
        assert batch.target.shape == ((8,) if mix is None else (8, 4))
    with pytest.raises((RuntimeError, NotImplementedError)):  # so waiting would have shown
        float(batches[0].input.sum())
    with pytest.raises((RuntimeError, NotImplementedError)):
        batches[0].input[batches[0].input > 0]


@pytest.mark.skipif("cuda" not in DEVICES, reason="needs CUDA, which tells of each wait")
@pytest.mark.parametrize("mode", ["batch", "elem"])
def test_cuda_is_not_waited_for(mode: Any) -> None:
    mix = Mix(mixup=0.3, cutmix=1.0, mode=mode)
    loader = Loader(samples({"erase": ERASE}), Plan(0, 40, 8), mix=mix, device=torch.device("cuda"))
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert len(list(loader.steps(0))) == 5
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_workers_are_not_needed() -> None:
    before = multiprocessing.active_children()
    here, plan = samples({}), Plan(0, 40, 8)
    steps = Loader(here, plan, workers=2, device=torch.device("cpu")).steps(0)
    (got,) = next(steps)
    assert multiprocessing.active_children() == before
    assert_same(got, next(Loader(here, plan).steps(0))[0], "cpu")


def test_neither_images_nor_generators_are_touched() -> None:
    here = samples({}, floats=True)
    images = here.images.clone()
    torch.manual_seed(0)
    np.random.seed(0)
    list(Loader(here, Plan(0, 40, 8), mix=Mix(mixup=1.0), device=torch.device("cpu")).steps(0))
    drawn = torch.rand(1), np.random.rand()
    assert torch.equal(here.images, images)
    torch.manual_seed(0)
    np.random.seed(0)
    assert drawn == (torch.rand(1), np.random.rand())


class OwnSamples(TensorSamples):
    """Samples of somebody's own, which may make their batches in their own way."""


class OwnViews(TensorViews):
    """Views of somebody's own."""


class OwnMix(Mix):
    """A mix of somebody's own."""


def own(kind: type[TensorSamples], views: TensorViews | None = None) -> TensorSamples:
    plain = samples(None)
    return kind(images=plain.images, targets=plain.targets, classes=plain.classes, views=views)


def items() -> ItemSamples:
    plain = samples(None)
    return ItemSamples(
        items=plain.images,  # type: ignore[arg-type]
        train=torch.clone,
        test=torch.clone,
        numbers=np.arange(40),
        targets=plain.targets,
        classes=plain.classes,
        channels=3,
        size=(9, 7),
    )


@pytest.mark.parametrize(
    ("made", "mix", "why"),
    [
        (items(), None, "read one by one"),
        (own(OwnSamples), None, "OwnSamples makes its batches on the CPU"),
        (own(TensorSamples, OwnViews(crop=2)), None, "OwnViews makes its views on the CPU"),
        (
            tensor_samples(views=TensorViews(rand_augment="rand-m7")),
            None,
            r"rand_augment goes through Pillow",
        ),
        (samples({"erase": 0.5}), None, r"data\.views\.erase draws noise"),
        (samples({}), OwnMix(mixup=1.0), "OwnMix mixes on the CPU"),
    ],
)
def test_what_cannot_be_made_there_is_said_and_made_as_ever(made: Any, mix: Mix | None, why: str) -> None:
    assert not fits(made, mix)
    assert re.search(why, fits(made, mix).why)
    plan = Plan(0, 40, 8)
    (got,) = next(Loader(made, plan, mix=mix, device=META).steps(0))
    assert_same(got, next(Loader(made, plan, mix=mix).steps(0))[0], "cpu")
    if mix is None and isinstance(made, TensorSamples):
        with pytest.raises(InputError, match=rf"data: views cannot be made on meta: .*{why}"):
            DeviceSamples(made, META)


@pytest.mark.parametrize(("floats", "taken"), [(False, 40 * 3 * 9 * 7), (True, 40 * 3 * 9 * 7 * 4)])
def test_images_leave_the_training_its_room(
    floats: bool, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, cuda = samples({}, floats=floats), torch.device("cuda")
    for free, fit in ((4 * taken, True), (4 * taken - 1, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        assert bool(fits(here, None, cuda)) == fit
    assert "of the device are free" in fits(here, None, cuda).why
