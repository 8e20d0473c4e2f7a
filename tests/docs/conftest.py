"""A place for the examples of the pages to run in: an empty folder with a few tiny pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COLOURS = {"finch": 0, "heron": 1, "robin": 2}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a page's examples; holds `birds/`, an image folder of three classes."""
    random = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 3)):
        for name, channel in COLOURS.items():
            folder = tmp_path / "birds" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 120, (40, 48, 3), dtype=np.uint8)
                pixels[..., channel] = 230
                Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "COLUMNS" in os.environ:
        monkeypatch.delenv("COLUMNS")
    return tmp_path
