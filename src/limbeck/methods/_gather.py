"""Samples of all processes, for methods that compare samples with each other."""

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
    from torch.distributed.nn.functional import all_gather

    if value.requires_grad:
        return torch.cat(all_gather(value.contiguous()))  # type: ignore[no-untyped-call]  # torch leaves it bare
    parts = [
        torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())
    ]
    dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)
