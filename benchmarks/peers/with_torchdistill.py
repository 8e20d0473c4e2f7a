"""torchdistill's own distillation box, used as its example scripts use it.

    Y. Matsubara, https://github.com/yoshitomo-matsubara/torchdistill

One thing is done for it: its teacher is put into eval mode. The library itself never does that, so that the
teacher's BatchNorm would normalise by each batch and its running statistics would move; the work, and what
is learned, would be another.
"""

from collections.abc import Iterator
from itertools import count, cycle
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, RandomSampler, SequentialSampler
from torchvision import transforms

from limbeck.data.samples import TensorSamples
from peers.side import AbsentError, Step
from peers.task import LABELS, MEAN, SGD, STD, TEMPERATURE, Task

__all__ = ["the_step", "with_loader"]


class InMemory(Dataset[tuple[Tensor, int]]):
    """CIFAR as torchvision has it: all in memory, each item a picture that goes through transforms."""

    def __init__(self, samples: TensorSamples, augmented: bool) -> None:
        self.images = samples.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = samples.targets.tolist()
        drawn = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        fixed = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
        self.transform = transforms.Compose([*(drawn if augmented else []), *fixed])

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[number])), self.targets[number]


def _box(task: Task, loader: dict[str, Any], data: dict[str, Dataset[Any]]) -> Any:
    """The box; its KDLoss is alpha · CE + (1 - alpha) · T² · KL, as long as alpha is not 0."""
    try:
        from torchdistill.core.distillation import get_distillation_box
    except ImportError as error:
        raise AbsentError(
            f"torchdistill is not installed here ({error}); `make bench` installs it"
        ) from error

    teacher, student = task.networks()
    logits = {f"{who}_module_path": "." for who in ("student", "teacher")}
    logits |= {f"{who}_module_io": "output" for who in ("student", "teacher")}
    loss = {"key": "KDLoss", "kwargs": {**logits, "temperature": TEMPERATURE, "alpha": LABELS}}
    settings = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": dict(SGD)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": loss, "weight": 1.0}}},
        },
    }
    box = get_distillation_box(teacher, student, data, settings, torch.device("cpu"), None, False, 1)
    box.teacher_model.eval()
    return box


def the_step(task: Task) -> Step:
    """What the box does with a batch, without its loader and its log.

    Raises:
        AbsentError: torchdistill is not installed.
    """
    box = _box(task, {}, {})
    box.student_model.train()
    batches = cycle(task.pairs)

    def step() -> float:
        x, y = next(batches)
        loss = box.forward_process(x, targets=y, supp_dict={})
        box.post_forward_process(loss=loss)
        return float(loss.item())

    return step


def with_loader(task: Task, augmented: bool = True) -> Step:
    """The loop of its example script: its loader without worker processes, and its log.

    Args:
        task: with samples.
        augmented: crop, flip and another order in each pass; else the task's own batches.

    Raises:
        AbsentError: torchdistill is not installed.
    """
    assert task.samples is not None
    loader = {
        "dataset_id": "train",
        "sampler": {"class_or_func": RandomSampler if augmented else SequentialSampler},
        "kwargs": {"batch_size": len(task.batches[0]), "num_workers": 0, "drop_last": True},
    }
    box = _box(task, loader, {"train": InMemory(task.samples, augmented)})
    from torchdistill.misc.log import MetricLogger

    def steps() -> Iterator[float]:
        for epoch in count():
            log = MetricLogger()
            box.pre_epoch_process(epoch=epoch)
            for x, y, more in log.log_every(box.train_data_loader, 1000):
                loss = box.forward_process(x, targets=y, supp_dict=more)
                box.post_forward_process(loss=loss)
                log.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
                yield float(loss.item())
            box.post_epoch_process()

    running = steps()
    return lambda: next(running)
