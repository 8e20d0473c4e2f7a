"""Photographs and weights for the seven steps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from limbeck.compat import super_gradients as sg


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs of two classes that can be told apart by their colour."""
    drawn = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for kind, colour in (("red", 0), ("blue", 2)):
            place = tmp_path / "photographs" / part / kind
            place.mkdir(parents=True)
            for number in range(count):
                pixels = drawn.integers(0, 90, (40, 40, 3), dtype=np.uint8)
                pixels[..., colour] += 150
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "photographs"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network of 1000 classes whose weights lie where published ones are looked for."""
    from limbeck import weights

    torch.manual_seed(3)
    network = sg.models.get("test_resnet")
    (tmp_path / "data" / "weights").mkdir(parents=True)
    weights.save(network, tmp_path / "data/weights/test_resnet.safetensors")
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return network
