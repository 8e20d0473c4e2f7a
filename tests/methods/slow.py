"""What comparisons with slow references share.

The references compute with Python floats; their gradient is a central difference.
"""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor


def draw(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numeric_gradient(loss: Callable[[Tensor], float], at: Tensor, step: float = 1e-5) -> Tensor:
    gradient = torch.zeros_like(at)
    for place in range(at.numel()):
        ends = []
        for sign in (1, -1):
            moved = at.clone()
            moved.view(-1)[place] += sign * step
            ends.append(loss(moved))
        gradient.view(-1)[place] = (ends[0] - ends[1]) / (2 * step)
    return gradient


def agree(ours: Callable[[Tensor], Tensor], reference: Callable[[Tensor], float], at: Tensor) -> None:
    point = at.clone().requires_grad_()
    loss = ours(point)
    assert loss.item() == pytest.approx(reference(at), rel=1e-12, abs=1e-15)
    (gradient,) = torch.autograd.grad(loss, point)
    assert torch.allclose(gradient, numeric_gradient(reference, at), rtol=1e-6, atol=1e-8)


def softmax(row: list[float]) -> list[float]:
    weights = [math.exp(v - max(row)) for v in row]
    return [w / sum(weights) for w in weights]
