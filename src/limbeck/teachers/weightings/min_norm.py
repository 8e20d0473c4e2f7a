"""The shortest vector among the weighted means of a few, with a cap on each weight.

    min over w of wᵀ G w,    Σ w = 1,    0 ≤ w_k ≤ cap,    G_jk = ⟨g_j, g_k⟩

Solved exactly: the minimum lies inside one of the faces of the set of weights, on each of which some weights
are 0, some are at the cap, and the others solve a linear system. For a handful of vectors there are few faces
(3^K at most), and all systems are solved at once, so nothing waits for the device, and the call can be
compiled into a graph. Libraries of multi-objective optimisation find such points too (torchjd's MGDA, by
Frank and Wolfe's iteration), but to a tolerance, step by step on the host, and without a cap; general solvers
of quadratic programs leave the device at every step.
"""

import math

import torch
from torch import Tensor

__all__ = ["min_norm"]

RIDGE = 1e-10
"""Times the mean of G's diagonal, added to it: vectors that are equal share their weight equally."""

SLACK = 1e-9
"""How far outside its bounds a weight may come out by rounding."""


def min_norm(gram: Tensor, cap: float = 1.0) -> Tensor:
    """The weights of the shortest weighted mean.

    Args:
        gram: inner products of K vectors, [K, K]; K is a handful.
        cap: the largest weight, at least 1/K.

    Returns:
        [K], float64; at least 0, at most `cap`, sum 1.
    """
    count = gram.shape[0]
    # Not every device has doubles, and the matrix is tiny.
    gram = gram.detach().to("cpu" if gram.device.type == "mps" else gram.device, torch.float64)
    size = gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    own = torch.eye(count, dtype=torch.float64, device=gram.device)
    gram = gram / size + RIDGE * own
    free, fixed = _faces(count, cap, gram.device)
    some = free.any(1)
    system = gram.new_zeros(len(free), count + 1, count + 1)
    # The slope along a free weight is that along every other one; a weight that is not free is what it is.
    system[:, :count, :count] = torch.where(free[:, :, None], gram, own)
    system[:, :count, count] = free
    system[:, count, :count] = some[:, None]
    system[:, count, count] = ~some
    wanted = torch.cat([fixed, some[:, None]], 1)
    found = torch.linalg.solve(system, wanted)[:, :count]
    inside = ((found >= -SLACK) & (found <= cap + SLACK)).all(1) & ((found.sum(1) - 1).abs() <= SLACK)
    length = ((found @ gram) * found).sum(1)
    best = torch.where(inside, length, math.inf).argmin()
    weights = found.index_select(0, best[None])[0].clamp(0, cap)
    settled: Tensor = weights / weights.sum()
    return settled


def _faces(count: int, cap: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Every face: which weights are free, [F, K], and what the others are, [F, K]."""
    kinds = 2 if cap >= 1 else 3  # 0, free, or at the cap
    numbers = torch.arange(kinds**count, device=device)[:, None]
    kind = numbers // kinds ** torch.arange(count, device=device) % kinds
    return kind == 1, (kind == 2).double() * cap
