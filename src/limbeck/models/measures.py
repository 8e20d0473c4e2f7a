"""Figures of a network that need no training: its size and its work."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["multiply_adds", "parameters"]


def parameters(model: nn.Module) -> int:
    """Number of parameters, shared ones counted once; buffers are not counted."""
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: nn.Module, example: Tensor) -> int | None:
    """Multiplications with addition of one forward pass, in matrix products, convolutions and attention.

    Args:
        model: any network; its mode and its statistics are unchanged afterwards.
        example: one input batch, [B, ...]; the count is for the whole of it.

    Returns:
        The count, or None where torch's counter sees none of these operations (a quantised network, say).
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(example)
    finally:
        for module, training in modes.items():
            module.training = training
    return counter.get_total_flops() // 2 or None
