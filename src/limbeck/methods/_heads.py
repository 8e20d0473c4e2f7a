"""What methods and students that look at a classifier share: whether it takes what they are told it takes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.methods._parts import widen

__all__ = ["classifies"]

TOLERANCE = 1e-2
"""Of the largest logit: rounding stays far below it, another feature far above."""


def classifies(head: nn.Linear, feature: Tensor, logits: Tensor) -> bool:
    """Whether a classifier takes this feature, averaged over its places where it is a map.

    Args:
        head: the linear layer.
        feature: [B, C, H, W] or [B, C].
        logits: what the network answers of the same samples, [B, K].
    """
    entering = widen(feature.detach().mean((2, 3)) if feature.ndim == 4 else feature.detach())
    if entering.ndim != 2 or entering.shape[1] != head.in_features:
        return False
    if logits.shape != (len(entering), head.out_features):
        return False
    weight, bias = (None if p is None else p.detach().to(entering) for p in (head.weight, head.bias))
    found, told = F.linear(entering, weight, bias), logits.detach().to(entering)
    rounding = max(torch.finfo(value.dtype).eps for value in (head.weight, feature, logits))
    return bool((found - told).abs().max() <= max(TOLERANCE, 4 * rounding) * told.abs().max())
