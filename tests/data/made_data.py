"""Small made-up data sets for the tests of `limbeck.data`."""

import gzip
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from limbeck.data import TensorSamples, TensorViews


def tensor_samples(count: int = 40, *, classes: int = 4, views: TensorViews | None = None) -> TensorSamples:
    """Random byte images of 3x8x8."""
    generator = torch.Generator().manual_seed(1)
    return TensorSamples(
        images=torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator),
        targets=torch.arange(count) % classes,
        classes=tuple("abcdefghij"[:classes]),
        views=views,
    )


def write_image(path: Path, seed: int = 0, side: int = 20, mode: str = "RGB") -> None:
    """A noisy picture in a file, its folder made when missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side) if mode == "L" else (side, side, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_classes(path: Path, counts: dict[str, int]) -> Path:
    """A folder for each class with so many pictures."""
    for number, (name, count) in enumerate(counts.items()):
        for picture in range(count):
            write_image(path / name / f"{picture:02d}.png", seed=100 * number + picture)
    return path


def write_cifar(folder: Path, records: dict[str, int], *, labels: int, classes: int, names: str) -> None:
    """Binary files in CIFAR's layout; labels go round, pixels are random."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names).write_text("\n".join(f"class{number}" for number in range(classes)) + "\n\n")
    for seed, (name, count) in enumerate(records.items()):
        made = np.random.default_rng(seed).integers(0, 256, (count, labels + 3072), dtype=np.uint8)
        made[:, labels - 1] = np.arange(count) % classes
        made.tofile(folder / name)


def write_idx(path: Path, values: np.ndarray) -> None:
    """A gzipped idx file of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sizes = np.array(values.shape, dtype=">u4").tobytes()
    path.write_bytes(gzip.compress(bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()))
