"""What methods that compare samples share: rows that belong together, without their scale, and directions."""

import torch
from torch import Tensor

from limbeck.methods._parts import flat

__all__ = ["LEAST", "directions", "rows", "unscaled"]

LEAST = 1e-12
"""A length below which a vector has no direction, and a mean of lengths divides nothing."""


def rows(method: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both features as one row for each sample, [B, D] and [B, D'], in one precision that is at least single.

    Raises:
        ValueError: not the same samples on both sides, none at all, or no axis beside theirs.
    """
    ours, theirs = flat(method, student), flat(method, teacher)
    if len(ours) != len(theirs) or not ours.numel() or not theirs.numel():
        raise ValueError(
            f"{method} needs features [samples, ...] of the same samples, at least one; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )
    common = torch.promote_types(ours.dtype, theirs.dtype)
    return ours.to(common), theirs.to(common)


def unscaled(value: Tensor, *, by_sample: bool = False) -> Tensor:
    """Divided by its largest absolute entry, so that no square overflows or vanishes.

    For losses that do not change with the scale. The divisor is a constant to the gradient, which is right
    for these: along the scale itself their gradient is zero.

    Args:
        value: [B, ...].
        by_sample: each sample by its own largest entry, for losses that do not change with that either.
    """
    sizes = value.detach().abs()
    largest = sizes.amax(tuple(range(1, value.ndim)), keepdim=True) if by_sample else sizes.amax()
    return value / largest.clamp(min=1e-30)


def directions(vectors: Tensor) -> Tensor:
    """Vectors of length 1 along the last axis; one without a direction is zero and gets no gradient."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    known = length > LEAST
    return torch.where(known, vectors / torch.where(known, length, 1.0), 0.0)
