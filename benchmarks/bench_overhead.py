"""What the trainer adds to a hand-written distillation loop that does the same work.

    python benchmarks/bench_overhead.py

Both sides: teacher forward, student forward and backward, .1 cross-entropy + .9 KD (T=4), SGD with momentum,
cosine schedule, eager, one thread, the same batches. Process CPU time, the sides taking turns step by step in
one process, median over the rounds.
"""

import copy
import math
from collections.abc import Callable, Iterator

import torch
from table import paired, publish, row
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import Batch, Frozen, Objective, Offline, Runtime, Tapped, Term, Trainer, Training
from limbeck.students.cifar import resnet20, resnet56
from limbeck.students.small import mlp

STEPS = 100_000
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


class Endless:
    """The same batch again and again: what is measured is the step, not the data."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.complete = True

    def __len__(self) -> int:
        return STEPS

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        while True:
            yield [self.batch]


def with_limbeck(teacher: nn.Module, student: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    objective = Objective({"cross_entropy": 0.1, "kd": Term(weight=0.9, temperature=4.0)})
    scheme = Offline(Tapped(student), objective, Frozen(Tapped(teacher)))
    settings = Training(epochs=1, optimizer={"name": "sgd", **SGD})
    steps = Trainer(scheme, settings, Runtime("cpu"), STEPS).fit(Endless(Batch(x, y)))
    return lambda: next(steps)


def by_hand(teacher: nn.Module, student: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    teacher.eval().requires_grad_(False)
    student.train()
    if x.dim() == 4:
        teacher, student = (m.to(memory_format=torch.channels_last) for m in (teacher, student))
        x = x.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(student.parameters(), **SGD)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    def step() -> float:
        with torch.no_grad():
            taught = teacher(x)
        said = student(x)
        kd = F.kl_div(
            F.log_softmax(said / 4, 1), F.log_softmax(taught / 4, 1), reduction="batchmean", log_target=True
        )
        loss = 0.1 * F.cross_entropy(said, y) + 0.9 * 16 * kd
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        assert math.isfinite(loss.item())  # as any loop that logs its loss
        return loss.item()

    return step


def compare(
    teacher: nn.Module, student: nn.Module, x: Tensor, rounds: int, steps: int
) -> list[tuple[float, float]]:
    y = torch.randint(0, 10, (len(x),))
    ours = with_limbeck(copy.deepcopy(teacher), copy.deepcopy(student), x, y)
    theirs = by_hand(copy.deepcopy(teacher), copy.deepcopy(student), x, y)
    for _ in range(3):
        ours(), theirs()
    return paired(ours, theirs, rounds, steps)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tiny = compare(mlp((8, 8), width=64), mlp((8, 8), width=16), torch.rand(64, 1, 8, 8), 21, 300)
    real = compare(resnet56(shortcut="pad"), resnet20(shortcut="pad"), torch.rand(128, 3, 32, 32), 9, 3)
    publish(
        "overhead",
        [
            row(
                "mlp 64 to mlp 16, batch 64", tiny, "ms", "adds at most 0.1 ms", lambda r, extra: extra <= 0.1
            ),
            row("ResNet-56 to ResNet-20, batch 128", real, "ms", "at most 1.03", lambda r, extra: r <= 1.03),
        ],
    )


if __name__ == "__main__":
    main()
