"""CIFAR-10 and CIFAR-100 from the official binary files.

Krizhevsky, 2009, Learning Multiple Layers of Features from Tiny Images,
https://www.cs.toronto.edu/~kriz/cifar.html
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from limbeck.data.base import Data, Request
from limbeck.data.download import Archive, fetch
from limbeck.data.places import cache, find_folder
from limbeck.data.samples import TensorSamples
from limbeck.data.tensors import tensor_data
from limbeck.errors import InputError

__all__ = ["Cifar", "load_cifar"]

_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE


@dataclass(frozen=True)
class Cifar:
    """One of the two data sets as it lies on disk.

    Attributes:
        folder: name of the folder inside the archive.
        train: files of the training split.
        test: file of the test split.
        names: file with one class name a line.
        labels: label bytes of a record; the last of them is the class.
        records: records of each file.
        archive: where it can be downloaded.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    labels: int
    records: dict[str, int]
    archive: Archive

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that is needed."""
        return (*self.train, self.test, self.names)


_TEN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_SETS = {
    "cifar10": Cifar(
        "cifar-10-batches-bin",
        _TEN,
        "test_batch.bin",
        "batches.meta.txt",
        labels=1,
        records=dict.fromkeys((*_TEN, "test_batch.bin"), 10_000),
        archive=Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ),
    ),
    "cifar100": Cifar(
        "cifar-100-binary",
        ("train.bin",),
        "test.bin",
        "fine_label_names.txt",
        labels=2,
        records={"train.bin": 50_000, "test.bin": 10_000},
        archive=Archive(
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        ),
    ),
}


def load_cifar(request: Request) -> Data:
    """The data set that `request.name` names, found or downloaded.

    Raises:
        InputError: a file is missing, has the wrong size or holds a label out of range.
    """
    spec = _SETS[request.name]
    found, places = find_folder(spec.folder, spec.files, root=request.root)
    if found is None:
        found = _download(request, spec, places)
    classes = tuple((found / spec.names).read_text(encoding="utf-8", errors="replace").split())
    train = [_read(found / name, spec, len(classes)) for name in spec.train]
    test = _read(found / spec.test, spec, len(classes))
    images, targets = np.concatenate([i for i, _ in train]), np.concatenate([t for _, t in train])
    return tensor_data(
        TensorSamples(images=torch.from_numpy(images), targets=torch.from_numpy(targets), classes=classes),
        TensorSamples(images=torch.from_numpy(test[0]), targets=torch.from_numpy(test[1]), classes=classes),
        request,
        usual={"crop": 4, "flip": True},
    )


def _download(request: Request, spec: Cifar, places: list[Path]) -> Path:
    looked = f"looked for {', '.join(spec.files)} in {', '.join(map(str, places))}"
    if request.root is not None:
        raise InputError(
            f"data.root: {request.name} is not there: {looked}. Without data.root it is downloaded."
        )
    files = [f"{spec.folder}/{file}" for file in spec.files]
    fetch(spec.archive, cache(), files, what=request.name, looked=looked)
    return cache() / spec.folder


def _read(path: Path, spec: Cifar, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 3, 32, 32] of bytes and labels [N] of one file."""
    record, expected = spec.labels + _PIXELS, spec.records[path.name]
    size = path.stat().st_size
    if size != record * expected:
        raise InputError(
            f"data.source: {path} has {size} bytes; {expected} records of {record} bytes make "
            f"{record * expected}. The file is truncated or of another kind."
        )
    records = np.fromfile(path, dtype=np.uint8).reshape(expected, record)
    targets = records[:, spec.labels - 1].astype(np.int64)
    if targets.max() >= classes:
        number = int(np.argmax(targets >= classes))
        raise InputError(
            f"data.source: {path}, record {number} has the label {targets[number]}; labels must be from 0 to "
            f"{classes - 1}, the classes of {spec.names}"
        )
    return np.ascontiguousarray(records[:, spec.labels :]).reshape(expected, 3, _SIDE, _SIDE), targets
