"""What it means, in words, when a library fails beneath a training: no memory, or another process gone."""

import torch

from limbeck.errors import WorkError

__all__ = ["explained"]

_EXCHANGE = ("gloo", "nccl", "xccl", "connection closed", "connection reset")
"""Words in the errors of torch's ways to talk between processes."""

_NO_ROOM = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
"""Words in the errors of torch's allocators that are no `OutOfMemoryError`: the CPU's and Apple's."""


def explained(error: RuntimeError | MemoryError, device: torch.device, world: int) -> WorkError | None:
    """The error for people; None where it is of another kind, or for people already.

    Args:
        error: what a library raised.
        device: where the training computes.
        world: number of processes.
    """
    if _out_of_memory(error):
        return WorkError(
            f"out of memory on {device}: {_first_line(error)} To need less, raise train.accumulate (each "
            "batch is computed in that many parts), or lower data.eval_batch_size if an evaluation ran. What "
            "was saved is still there, and goes on with either by --resume; train.precision: bf16 and a "
            "lower data.batch_size need a new run."
        )
    lost = any(word in str(error).lower() for word in _EXCHANGE)
    if world == 1 or isinstance(error, WorkError | MemoryError) or not lost:
        return None
    return WorkError(
        "another process of this run has stopped; its own message says why. What was saved is still there: "
        "--resume goes on from it."
    )


def _out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, had no room left."""
    told = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(w in told for w in _NO_ROOM)


def _first_line(error: BaseException) -> str:
    found = str(error).strip().split("\n")[0] or type(error).__name__
    return found if found.endswith(".") else f"{found}."
