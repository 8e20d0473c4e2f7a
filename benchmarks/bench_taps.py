"""What taps and projectors add to a step beyond the method's own arithmetic.

    python benchmarks/bench_taps.py

ResNet-56 teaches ResNet-20, batch 64 at 32x32 pixels, eager, one thread. Ours: the trainer, with taps that
read the layers and a method that has set its layers up. By hand: networks whose forward hands the same
layers out, regressors made by hand, the same pure function, SGD. Process CPU time, the two taking turns
step by step, median over the rounds.
"""

import copy
from collections.abc import Callable

import torch
from bench_methods import STEPS, Endless
from table import paired, publish, row
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import Batch, Frozen, Objective, Offline, Runtime, Tapped, Term, Trainer, Training, functional
from limbeck.assembly import setup
from limbeck.students.cifar import ResNet, resnet20, resnet56

SIZE, ROUNDS, TURNS = 64, 9, 3
SGD = {"lr": 1e-3, "momentum": 0.9}
LAYERS = ("layer1", "layer2", "layer3")


def with_limbeck(student: nn.Module, teacher: nn.Module, batch: Batch, name: str) -> Callable[[], object]:
    term = Term(weight=0.01, layers={layer: layer for layer in LAYERS})
    objective = Objective({"cross_entropy": 1.0, name: term})
    frozen = Frozen(Tapped(teacher, objective.teacher_taps))
    network = Tapped(student, objective.student_taps)
    setup(network, objective, frozen, batch, SIZE, 10, 0)
    settings = Training(epochs=1, optimizer={"name": "sgd", **SGD})
    scheme = Offline(network, objective, frozen)
    steps = Trainer(scheme, settings, Runtime("cpu"), STEPS).fit(Endless(batch))
    return lambda: next(steps)


def read(network: ResNet, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The forward pass of the network, its stages handed out."""
    x = F.relu(network.bn1(network.conv1(x)))
    stages = []
    for stage in (network.layer1, network.layer2, network.layer3):
        x = stage(x)
        stages.append(x)
    return network.linear(x.mean((2, 3))), stages


def by_hand(student: ResNet, teacher: ResNet, batch: Batch, name: str) -> Callable[[], object]:
    teacher.eval().requires_grad_(False)
    student.train()
    student, teacher = (m.to(memory_format=torch.channels_last) for m in (student, teacher))
    assert isinstance(batch.input, Tensor)
    x, y = batch.input.contiguous(memory_format=torch.channels_last), batch.target
    assert y is not None
    regressors = nn.ModuleList(
        nn.Sequential(nn.Conv2d(c, c, 1), nn.ReLU()) if name == "hint" else nn.Identity()
        for c in (16, 32, 64)
    ).to(memory_format=torch.channels_last)
    loss_of = getattr(functional, name)
    optimizer = torch.optim.SGD([*student.parameters(), *regressors.parameters()], **SGD)

    def step() -> float:
        with torch.no_grad():
            _, goals = read(teacher, x)
        logits, stages = read(student, x)
        pairs = zip(regressors, stages, goals, strict=True)
        loss = F.cross_entropy(logits, y) + 0.01 * sum(loss_of(r(a), b) for r, a, b in pairs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    student, teacher = resnet20(), resnet56()
    batch = Batch(torch.rand(SIZE, 3, 32, 32), torch.arange(SIZE) % 10)
    rows = []
    for name in ("hint", "attention_transfer"):
        ours = with_limbeck(copy.deepcopy(student), copy.deepcopy(teacher), batch, name)
        theirs = by_hand(copy.deepcopy(student), copy.deepcopy(teacher), batch, name)
        for _ in range(3):
            ours(), theirs()
        found = paired(ours, theirs, ROUNDS, TURNS)
        rows.append(
            row(f"{name}, three pairs of layers", found, "ms", "at most 1.02", lambda r, _: r <= 1.02)
        )
    publish("taps", rows)


if __name__ == "__main__":
    main()
