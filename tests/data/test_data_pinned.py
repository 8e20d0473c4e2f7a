"""What views and mixes were when their numbers were fixed: faster code must give the very same pixels."""

import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.data import Loader, Mix, Plan, TensorSamples, TensorViews


def samples(channels: int, floats: bool, views: TensorViews | None = None) -> TensorSamples:
    """Made by arithmetic that is the same everywhere, 40 of C x 9 x 7."""
    count = 40 * channels * 9 * 7
    pixels = (torch.arange(count) * 7919 % 251).to(torch.uint8).reshape(40, channels, 9, 7)
    images = pixels.to(torch.float32) / 256 if floats else pixels
    return TensorSamples(images=images, targets=torch.arange(40) % 4, classes=tuple("abcd"), views=views)


def checksum(images: Tensor) -> float:
    """A sum that knows the places, for what goes through functions that may differ in the last bit."""
    weights = torch.linspace(0, 1, images.numel(), dtype=torch.float64) ** 2
    return float(images.double().flatten() @ weights)


PLAIN = {"crop": 0, "flip": False}
ERASE = {"probability": 0.7, "value": "zero"}

VIEWS = [
    # options, then grey bytes, coloured bytes, grey floats, coloured floats
    ({}, "d34291137dfb8067", "b2184a84dbdd4411", "7d68230077e72544", "ad90762647b06e36"),
    (
        {"crop": 2, "flip": False},
        "06bfade70b5c5589",
        "ea1e23d4ba781ed8",
        "c26b8996d91b0ba1",
        "97d57caefa717d4c",
    ),
    ({"crop": 0}, "db0c3afeb5192e5d", "6666ed15d991e2ac", "7d937f7c6e4a69af", "bf33bbfa1d532716"),
    (PLAIN, "78a21b23c372feb1", "d9f47d9c5f171479", "200b60f40bc00438", "4e7e10e82b58c852"),
    (
        {**PLAIN, "erase": ERASE},
        "282e7d73ea29a44f",
        "a88542e6512e6925",
        "e4e19872340d2f00",
        "cac7ab41824c9599",
    ),
    ({"erase": ERASE}, "2191732bb2b99813", "5a5e7d18df0afb9b", "766a95cd392223c1", "5633eb808c69e7b7"),
]


@pytest.mark.parametrize(("options", "expected"), [(row[0], row[1:]) for row in VIEWS], ids=str)
@pytest.mark.parametrize("kind", range(4))
def test_the_pixels_of_views_stay(options: dict[str, Any], expected: tuple[str, ...], kind: int) -> None:
    made = samples(3 if kind % 2 else 1, kind > 1, TensorViews(**options))
    index = np.arange(80, dtype=np.int64) * 13 % 40
    views = [(5, 11), (index // 3 - 2, 2**40), (None, 0)]
    found = torch.cat([made.take(index, view, seed).input for view, seed in views])  # type: ignore[misc]
    assert hashlib.blake2b(found.numpy().tobytes(), digest_size=8).hexdigest() == expected[kind]


@pytest.mark.parametrize(("channels", "expected"), [(1, 348.40851389407504), (3, 1046.137779344322)])
def test_the_noise_of_erasing_stays(channels: int, expected: float) -> None:
    made = samples(channels, False, TensorViews(crop=1, erase=0.8))
    found = made.take(np.arange(40), 3, 1).input
    assert isinstance(found, Tensor)
    assert checksum(found) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "mode", "pixels", "shares"),
    [
        ("mixup", "batch", 570.7890335832601, 11.05801684779141),
        ("mixup", "pair", 572.3946545794392, 11.075494521832166),
        ("mixup", "elem", 622.1243282678802, 11.032788651899235),
        ("cutmix", "batch", 576.9626133278155, 11.070356095936823),
        ("cutmix", "pair", 585.9204025264864, 11.077459691136763),
        ("cutmix", "elem", 605.6239700126295, 11.063584561661875),
        ("both", "batch", 585.8900980608643, 11.069356814081537),
        ("both", "pair", 580.7469835848066, 11.075636628804858),
        ("both", "elem", 613.3502747930527, 11.05717173926833),
    ],
)
def test_the_pixels_and_shares_of_mixes_stay(kind: str, mode: Any, pixels: float, shares: float) -> None:
    mix = Mix(mixup=0.4 * (kind != "cutmix"), cutmix=float(kind != "mixup"), probability=0.8, mode=mode)
    made = samples(3, False, TensorViews())
    batches = [step[0] for step in Loader(made, Plan(3, 40, 11, repeats=2), mix=mix).steps(4)]
    assert checksum(torch.cat([b.input for b in batches])) == pytest.approx(pixels, abs=1e-3)  # type: ignore[misc]
    assert checksum(torch.cat([b.target for b in batches])) == pytest.approx(shares, abs=1e-5)  # type: ignore[misc]
