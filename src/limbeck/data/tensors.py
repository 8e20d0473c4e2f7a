"""Finishing splits that are in memory: views, and another image size where asked for."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limbeck.data.base import Data, Request
from limbeck.data.samples import TensorSamples
from limbeck.data.views import TensorViews

__all__ = ["tensor_data"]


def tensor_data(
    train: TensorSamples, test: TensorSamples, request: Request, usual: Mapping[str, Any]
) -> Data:
    """The splits as `Data`, resized to `request.size`, the training one with its views.

    Args:
        train: training split.
        test: test split.
        request: what the recipe asks for.
        usual: the options of `TensorViews` that are usual for this data set.
    """
    views = TensorViews.make(request.views, usual)
    train, test = (replace(s, images=_resized(s.images, request.size)) for s in (train, test))
    return Data(replace(train, views=views), test, None, train.classes, train.identifiers)


def _resized(images: Tensor, size: int | None) -> Tensor:
    """Images [N, C, H, W] as [N, C, size, size]; in pieces, because resizing goes through floats."""
    if size is None or tuple(images.shape[2:]) == (size, size):
        return images
    from torchvision.transforms.v2 import functional

    pieces = [functional.resize(piece, [size, size], antialias=True) for piece in torch.split(images, 1024)]
    return torch.cat(pieces)
