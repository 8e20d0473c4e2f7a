"""scikit-learn's 1797 handwritten digits, 8x8 pixels, grey: small enough to learn anything in seconds.

Alpaydin and Kaynak, 1998, Optical Recognition of Handwritten Digits,
https://doi.org/10.24432/C50P49
"""

import numpy as np
import torch

from limbeck.data.base import Data, Request
from limbeck.data.samples import TensorSamples
from limbeck.data.splits import others, proportional
from limbeck.data.tensors import tensor_data

__all__ = ["load_digits"]

_TEST = 360
_GREATEST = 16  # pixels are whole numbers from 0 to 16


def load_digits(request: Request) -> Data:
    """1437 digits to learn from and 360 to test on, always the same ones, in equal shares of the classes."""
    from sklearn.datasets import load_digits as read

    read_data = read()
    images = np.rint(read_data.images * (255 / _GREATEST)).astype(np.uint8)[:, None]
    everything = TensorSamples(
        images=torch.from_numpy(images),
        targets=torch.from_numpy(read_data.target.astype(np.int64)),
        classes=tuple(str(digit) for digit in range(10)),
    )
    held_out = proportional(everything.targets, _TEST, seed=0, stream=0)
    train = everything.subset(others(len(everything), held_out))
    # Mirrored digits are other signs, and one pixel is already an eighth of the picture.
    return tensor_data(train, everything.subset(held_out), request, usual={"crop": 1, "flip": False})
