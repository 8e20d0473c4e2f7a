"""timm's task for distilling logits, in the order of its training script.

    R. Wightman, https://github.com/huggingface/pytorch-image-models

Its loss is the same with weights of one's own choice. Its optimiser spares biases and norms from decay unless
it is told not to, which is done here, for all sides decay the same parameters.
"""

from itertools import cycle
from typing import Any

import torch
from torch import nn

from peers.side import AbsentError, Step, need_compiler
from peers.task import LABELS, MEAN, SGD, STD, TEMPERATURE, Task

__all__ = ["with_timm"]


def with_timm(task: Task, channels_last: bool = False, compiled: bool = False) -> Step:
    """The task's steps.

    Args:
        task: what is trained.
        channels_last: its script's `--channels-last`.
        compiled: the task's own `compile`.

    Raises:
        AbsentError: this timm has no such task, or there is nothing to compile with.
    """
    try:
        from timm.optim import create_optimizer_v2
        from timm.task import LogitDistillationTask
    except ImportError as error:
        raise AbsentError(f"this timm has no distillation task ({error})") from error

    networks: list[Any] = list(task.networks())
    pairs = task.pairs
    channels = pairs[0][0].shape[1]
    for network in networks:  # what timm asks of its own networks
        network.pretrained_cfg = {"mean": MEAN[:channels], "std": STD[:channels]}
        network.num_classes, network.in_chans = 10, channels
    teacher, student = networks
    distilling = LogitDistillationTask(
        student,
        teacher,
        nn.CrossEntropyLoss(),
        task_loss_weight=LABELS,
        temperature=TEMPERATURE,
        verbose=False,
    )
    distilling.train()
    if channels_last:
        distilling.to(memory_format=torch.channels_last)
        pairs = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in pairs]
    optimizer = create_optimizer_v2(student, "momentum", filter_bias_and_bn=False, **SGD)
    if compiled:
        need_compiler()
        distilling.compile()
    batches = cycle(pairs)

    def step() -> float:
        losses = distilling(*next(batches))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        return float(losses["loss"].item())

    return step
