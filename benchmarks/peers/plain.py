"""A distillation loop written by hand, as a tutorial would have it: what all others are measured by."""

from itertools import cycle

import torch
from torch.nn import functional as F

from peers.side import Step, need_compiler
from peers.task import LABELS, SGD, TEMPERATURE, Task

__all__ = ["plain"]


def plain(task: Task, channels_last: bool = False, compiled: bool = False) -> Step:
    """The loop.

    Args:
        task: what is trained.
        channels_last: images and convolution weights in that memory order.
        compiled: both networks through `torch.compile`.

    Raises:
        AbsentError: there is nothing to compile with.
    """
    teacher, student = task.networks()
    teacher.requires_grad_(False)
    pairs = task.pairs
    if channels_last:
        teacher, student = (m.to(memory_format=torch.channels_last) for m in (teacher, student))
        pairs = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in pairs]
    if compiled:
        need_compiler()
        teacher.compile()
        student.compile()
    optimizer = torch.optim.SGD(student.parameters(), **SGD)
    batches = cycle(pairs)

    def step() -> float:
        x, y = next(batches)
        with torch.no_grad():
            taught = teacher(x)
        said = student(x)
        kd = F.kl_div(
            F.log_softmax(said / TEMPERATURE, 1),
            F.log_softmax(taught / TEMPERATURE, 1),
            reduction="batchmean",
            log_target=True,
        )
        loss = LABELS * F.cross_entropy(said, y) + (1 - LABELS) * TEMPERATURE**2 * kd
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
