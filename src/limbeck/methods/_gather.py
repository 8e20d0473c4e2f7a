"""Samples of all processes, for methods that compare samples with each other."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["everyones", "place"]


def everyones(*values: Tensor) -> tuple[Tensor, ...]:
    """The rows of all processes, in the order of the processes; what is given where there is one process.

    The gradient of a gathered row goes back to the process that it came from, summed over all that used it.
    With it the mean over processes that data-parallel training takes of the gradients is the gradient of the
    loss of the whole batch, as one process computes it.

    Args:
        values: tensors [B, ...]; each process must give as many rows.

    Returns:
        Tensors [processes · B, ...].
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    return tuple(_gather(value) for value in values)


def place() -> int:
    """Number of this process among all: its own rows start at `place() * B` of what `everyones` gives."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _gather(value: Tensor) -> Tensor:
    gathered: Tensor = _Gather.apply(value)
    return gathered


class _Gather(torch.autograd.Function):
    """The differentiable gathering of torch.distributed.nn is on its way out, its successor private."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        ctx.rows = len(value)
        gathered = value.new_empty((dist.get_world_size() * len(value), *value.shape[1:]))
        dist.all_gather_into_tensor(gathered, value.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        total = slopes[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[place() * ctx.rows :][: ctx.rows]
