"""Layers of the methods' own (regressors, projectors), drawn from the probe's generator alone."""

from typing import Literal

import torch
from torch import nn

__all__ = ["linear"]


def linear(
    inputs: int,
    outputs: int,
    generator: torch.Generator,
    *,
    maps: bool = False,
    gain: Literal["relu", "linear"] = "relu",
) -> nn.Module:
    """A linear layer, or a 1×1 convolution for maps: He's normal initialisation, zero bias.

    Args:
        inputs: width of the features coming in.
        outputs: width of those going out.
        generator: the only source of its initial values, so that setting up a method draws nothing from
            torch's global generator and student and control see the same.
        maps: for [B, C, H, W] instead of [..., D].
        gain: the non-linearity that follows; `linear` for none.
    """
    # Built without memory first: the usual constructor would draw from torch's global generator.
    empty = (
        nn.Conv2d(inputs, outputs, 1, device="meta") if maps else nn.Linear(inputs, outputs, device="meta")
    )
    layer = empty.to_empty(device=generator.device)
    nn.init.kaiming_normal_(layer.weight, nonlinearity=gain, generator=generator)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
