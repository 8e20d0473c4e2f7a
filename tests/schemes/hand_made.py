"""What the tests of single schemes share: tiny peers in double precision, losses in Python's own numbers."""

import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.taps import Tapped

CLASSES, SAMPLES, WIDTH = 4, 5, 3

__all__ = [
    "CLASSES",
    "SAMPLES",
    "WIDTH",
    "batch_of",
    "cross_entropy",
    "divergence",
    "network",
    "numeric",
    "setting_of",
    "softmax",
]


def network(seed: int, width: int = WIDTH) -> Tapped:
    """A network of two linear layers, [B, 6] to logits, in double precision."""
    torch.manual_seed(seed)
    return Tapped(nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, CLASSES)).double())


def batch_of(target: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(3)
    given = torch.tensor([0, 1, 2, 3, 1]) if target is None else target
    return Batch(torch.randn(SAMPLES, 6, generator=generator, dtype=torch.float64), given)


def setting_of(peers: Sequence[Tapped], objective: Callable[[], Objective], samples: Any = None) -> Setting:
    return Setting(
        samples=SimpleNamespace() if samples is None else samples,  # type: ignore[arg-type]
        classes=CLASSES,
        seed=0,
        epochs=2,
        probe=batch_of(),
        objective=objective,
        peers={f"peer-{number}": peer for number, peer in enumerate(peers, 2)},
        generator=torch.Generator().manual_seed(0),
    )


def softmax(row: Sequence[float], temperature: float = 1.0) -> list[float]:
    weights = [math.exp((v - max(row)) / temperature) for v in row]
    return [w / sum(weights) for w in weights]


def cross_entropy(logits: Sequence[Sequence[float]], target: Sequence[int]) -> float:
    """The mean over the samples with a label."""
    terms = [-math.log(softmax(row)[y]) for row, y in zip(logits, target, strict=True) if y >= 0]
    return sum(terms) / len(terms)


def divergence(
    theirs: Sequence[Sequence[float]], ours: Sequence[Sequence[float]], temperature: float
) -> float:
    """T² times the mean over the samples of the divergence from a target."""
    total = 0.0
    for target, own in zip(theirs, ours, strict=True):
        p, q = softmax(target, temperature), softmax(own, temperature)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(ours)


def numeric(loss: Callable[[], float], at: Tensor, step: float = 1e-6) -> Tensor:
    """The gradient at a tensor by central differences; `loss` computes with whatever it holds."""
    found = torch.zeros_like(at)
    with torch.no_grad():
        flat, slopes = at.view(-1), found.view(-1)
        for place in range(at.numel()):
            before = float(flat[place])
            ends = []
            for sign in (1, -1):
                flat[place] = before + sign * step
                ends.append(loss())
            flat[place] = before
            slopes[place] = (ends[0] - ends[1]) / (2 * step)
    return found
