"""Fashion-MNIST from its idx files.

Xiao, Rasul and Vollgraf, 2017, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms, https://arxiv.org/abs/1708.07747
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.data.base import Data, Request
from limbeck.data.download import Archive, fetch
from limbeck.data.places import cache, find_folder
from limbeck.data.samples import TensorSamples
from limbeck.data.tensors import tensor_data
from limbeck.errors import InputError

__all__ = ["load_fashion_mnist", "read_idx"]

_FOLDER = "fashion-mnist"
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
_SERVER = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
_FILES = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def load_fashion_mnist(request: Request) -> Data:
    """60 000 grey images of 28x28 pixels to learn from and 10 000 to test on.

    Raises:
        InputError: a file is missing, damaged or not what its name says.
    """
    folder, places = find_folder(_FOLDER, list(_FILES), root=request.root, extra=[_DEBIAN])
    if folder is None:
        looked = f"looked for {', '.join(_FILES)} in {', '.join(map(str, places))}"
        if request.root is not None:
            raise InputError(
                f"data.root: fashion_mnist is not there: {looked}. Without data.root it is downloaded."
            )
        folder = cache() / _FOLDER
        for file, checksum in _FILES.items():
            archive = Archive(f"{_SERVER}/{file}", checksum)
            fetch(archive, folder, [file], what="fashion_mnist", looked=looked)
    train, test = _split(folder, "train"), _split(folder, "t10k")
    return tensor_data(train, test, request, usual={"crop": 2, "flip": True})


def _split(folder: Path, name: str) -> TensorSamples:
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", dimensions=3)
    targets = read_idx(folder / f"{name}-labels-idx1-ubyte.gz", dimensions=1)
    if len(images) != len(targets):
        raise InputError(
            f"data.source: {folder} has {len(images)} images and {len(targets)} labels for {name}"
        )
    return TensorSamples(
        images=torch.from_numpy(images[:, None]),
        targets=torch.from_numpy(targets.astype(np.int64)),
        classes=_CLASSES,
    )


def read_idx(path: Path, dimensions: int) -> NDArray[Any]:
    """The bytes of a gzipped idx file: two zero bytes, type 8, number of dimensions, their sizes, values.

    Raises:
        InputError: the file is damaged or of another kind.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"data.source: {path} cannot be read: {error}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes([0, 0, 8, dimensions]):
        raise InputError(f"data.source: {path} is not an idx file of bytes with {dimensions} dimensions")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    if len(content) - header != int(np.prod(shape, dtype=np.int64)):
        raise InputError(
            f"data.source: {path} holds {len(content) - header} values, its header says "
            f"{' x '.join(map(str, shape))}. The file is truncated or damaged."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()
