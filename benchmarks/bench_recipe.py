"""A step of the full training recipe against the same step as timm's own training does it.

    python benchmarks/bench_recipe.py

Both sides: mixup and cutmix by batch, teacher forward, student forward and backward, .2 cross-entropy + .8
KD at temperature 1, LAMB without decay on biases and norms, cosine with warm-up, an average of the weights.
Theirs is timm's distillation task, mixing, average, optimiser and schedule, in the order of its training
script; what that loads as normalised images is normalised here. Eager, one thread, the same pixels. Process
CPU time, the sides taking turns step by step in one process, median over the rounds.
"""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import timm
import torch
from table import paired, publish, row
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.task import LogitDistillationTask
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from limbeck import Averaging, Batch, Frozen, Objective, Offline, Runtime, Tapped, Term, Trainer, Training
from limbeck.data.mixing import Mix
from limbeck.data.plans import Share
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputAdapter, InputSpec
from limbeck.training.ema import Ema

STEPS = 100_000
CLASSES = 10
LAMB = {"lr": 5e-3, "weight_decay": 0.02}
SPEC = InputSpec(IMAGENET_MEAN, IMAGENET_STD)


class Mixed:
    """The same images mixed anew in each step, as the loader mixes them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y
        self.complete = True

    def __len__(self) -> int:
        return STEPS

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        mix = Mix(mixup=0.2, cutmix=1.0)
        place = np.arange(len(self.x), dtype=np.int64)
        step = start
        while True:
            share = Share(place, place * 0, place, len(place), step, 0)
            yield [Batch(*mix(self.x.clone(), self.y, share, 0, CLASSES))]
            step += 1


def with_limbeck(teacher: nn.Module, student: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    objective = Objective({"cross_entropy": 0.2, "kd": Term(weight=0.8, temperature=1.0)})
    taught, taught_by = (
        Tapped(network, (), InputAdapter(SPEC, channels=3)) for network in (student, teacher)
    )
    scheme = Offline(taught, objective, Frozen(taught_by))
    settings = Training(
        epochs=1,
        optimizer={"name": "lamb", **LAMB},
        schedule={"name": "cosine", "warmup_epochs": 0.01, "final": 0.01},
        decay_bias_and_norm=False,
    )
    runtime = Runtime("cpu")
    runtime.place(scheme)
    ema = Ema(taught, Averaging(0.9999, "constant"), STEPS)
    steps = Trainer(scheme, settings, runtime, STEPS, ema=ema).fit(Mixed(x, y))
    return lambda: next(steps)


def with_timm(teacher: nn.Module, student: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    task = LogitDistillationTask(
        student, teacher, SoftTargetCrossEntropy(), task_loss_weight=0.2, temperature=1.0, verbose=False
    )
    task.train()
    task.to(memory_format=torch.channels_last)
    mix = Mixup(0.2, 1.0, label_smoothing=0.0, num_classes=CLASSES)
    optimizer = create_optimizer_v2(student, "lamb", **LAMB)  # biases and norms are spared by default
    schedule = CosineLRScheduler(optimizer, STEPS, lr_min=5e-5, warmup_t=1000, t_in_epochs=False)
    ema = ModelEmaV3(student, decay=0.9999)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    done = 0

    def step() -> float:
        nonlocal done
        images, target = mix((x - mean) / std, y)
        losses = task(images.contiguous(memory_format=torch.channels_last), target)
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(student, step=done)
        done += 1
        schedule.step_update(done)
        return float(losses["loss"].item())  # as any loop that logs its loss

    return step


def compare(teacher: str, student: str, side: int, batch: int, rounds: int) -> list[tuple[float, float]]:
    torch.manual_seed(0)
    np.random.seed(0)
    networks = [timm.create_model(name, num_classes=CLASSES) for name in (teacher, student)]
    x, y = torch.rand(batch, 3, side, side), torch.randint(0, CLASSES, (batch,))
    for network in networks:
        network.pretrained_cfg |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    ours = with_limbeck(*copy.deepcopy(networks), x, y)
    networks[0].requires_grad_(False)
    theirs = with_timm(*networks, x, y)
    for _ in range(3):
        ours(), theirs()
    return paired(ours, theirs, rounds, 3)


def main() -> None:
    torch.set_num_threads(1)
    cases = [
        ("ResNet-26 to ResNet-10, 96 px, batch 32", ("resnet26", "resnet10t", 96, 32, 11)),
        ("ResNet-18 to a ResNet of .5 M, 64 px, batch 64", ("resnet18", "test_resnet", 64, 64, 11)),
    ]
    publish(
        "recipe",
        [
            row(name, compare(*case), "ms", "at most 1.03", lambda ratio, extra: ratio <= 1.03)
            for name, case in cases
        ],
    )


if __name__ == "__main__":
    main()
