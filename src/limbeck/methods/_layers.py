"""Layers of the methods' own (regressors, projectors), drawn from the probe's generator alone."""

from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.methods._parts import widen

__all__ = ["aligned", "conv", "linear"]

Gain = Literal["relu", "linear"]


def aligned(
    ours: Tensor, theirs: Tensor, generator: torch.Generator, *, bias: bool = False, normalize: bool = False
) -> nn.Module:
    """From the width of the student's map to the teacher's: a 1×1 convolution; nothing where they agree.

    Args:
        ours: the student's map, [B, C, H, W].
        theirs: the teacher's.
        generator: the only source of its initial values.
        bias: whether the convolution has one.
        normalize: whether BatchNorm follows.
    """
    width = theirs.shape[1]
    if ours.shape[1] == width:
        return nn.Identity()
    layer = conv(ours.shape[1], width, 1, generator, bias=bias, gain="linear")
    return (nn.Sequential(layer, nn.BatchNorm2d(width)) if normalize else layer).to(
        device=ours.device, dtype=widen(ours).dtype
    )


def linear(
    inputs: int,
    outputs: int,
    generator: torch.Generator,
    *,
    maps: bool = False,
    bias: bool = True,
    gain: Gain = "relu",
) -> nn.Module:
    """A linear layer, or a 1×1 convolution for maps: He's normal initialisation, zero bias.

    Args:
        inputs: width of the features coming in.
        outputs: width of those going out.
        generator: the only source of its initial values, so that setting up a method draws nothing from
            torch's global generator and student and control see the same.
        maps: for [B, C, H, W] instead of [..., D].
        bias: whether it has one.
        gain: the non-linearity that follows; `linear` for none.
    """
    if maps:
        return conv(inputs, outputs, 1, generator, bias=bias, gain=gain)
    # Built without memory first: the usual constructor would draw from torch's global generator.
    layer = nn.Linear(inputs, outputs, bias=bias, device="meta").to_empty(device=generator.device)
    return _drawn(layer, generator, gain)


def conv(
    inputs: int,
    outputs: int,
    size: int,
    generator: torch.Generator,
    *,
    bias: bool = False,
    gain: Gain = "relu",
    stride: int = 1,
    transposed: bool = False,
) -> nn.Module:
    """A square convolution that keeps a map's size at stride 1: He's normal initialisation, zero bias.

    Args:
        inputs, outputs: channels.
        size: side of its kernel, odd (any, for `transposed`).
        generator: the only source of its initial values.
        bias: whether it has one; a BatchNorm behind it has its own.
        gain: the non-linearity that follows; `linear` for none.
        stride: of the kernel.
        transposed: a transposed convolution instead.
    """
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(
        inputs, outputs, size, stride=stride, padding=(size - 1) // 2, bias=bias, device="meta"
    ).to_empty(device=generator.device)
    return _drawn(layer, generator, gain)


def _drawn(layer: nn.Module, generator: torch.Generator, gain: Gain) -> nn.Module:
    assert isinstance(layer.weight, torch.Tensor)
    nn.init.kaiming_normal_(layer.weight, nonlinearity=gain, generator=generator)
    if isinstance(layer.bias, torch.Tensor):
        nn.init.zeros_(layer.bias)
    return layer
