"""Two processes that share networks out between them; what each of them finds.

    python parts.py FOLDER

writes `FOLDER/<rank>.pt`. It is a program of its own because only a process that has not back-propagated yet
may be forked.
"""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from forking import in_processes
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.schemes import Offline
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training import sharding
from limbeck.training.optimizers import build_optimizer
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.shard_trial import try_optimizer

WORLD, WIDTH = 2, 6
OPTIMIZERS = ("sgd", "adamw", "lamb", "adafactor", "lion", "adamp", "muon", "novograd")
TAPS = ("stem", "blocks.0", "blocks.1.0", "blocks.2:in", "head")


class Block(nn.Sequential):
    """A block that other modules of its class stand beside."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))


class Net(nn.Module):
    """Blocks and what is outside them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, WIDTH)
        self.blocks = nn.Sequential(Block(), Block(), Block())
        self.head = nn.Linear(WIDTH, 3)

    def forward(self, input: Tensor) -> Tensor:
        answer: Tensor = self.head(self.blocks(self.stem(input)))
        return answer


def net(seed: int) -> Net:
    torch.manual_seed(seed)
    return Net()


def batch(rows: slice = slice(None)) -> Batch:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(8, 4, generator=generator)
    return Batch(inputs[rows], (torch.arange(8) % 3)[rows])


def numbers(module: nn.Module) -> tuple[int, int]:
    """How many numbers this process holds of a module's parameters, and how many there are."""
    parameters = list(module.parameters())
    return sum(sharding.local(p).numel() for p in parameters), sum(p.numel() for p in parameters)


def teacher(runtime: Runtime) -> dict[str, Any]:
    frozen = Frozen(Tapped(net(1), TAPS, who="teacher"))
    whole = frozen(batch())
    frozen.place(runtime)
    said = frozen(batch())
    found: dict[str, Any] = {
        "logits": torch.equal(said.logits, whole.logits),
        "features": [torch.equal(a, b) for a, b in zip(said.features, whole.features, strict=True)],
        "numbers": numbers(frozen.network),
    }
    try:
        frozen(batch(), differentiable=True)
    except InputError as error:
        found["differentiable"] = str(error)
    return found


def student(runtime: Runtime, rank: int) -> dict[str, Any]:
    """Gradients of a batch in two parts in each process, and whether they are there after each."""
    scheme = Offline(Tapped(net(2), TAPS, who="student"), Objective({"cross_entropy": 1.0}))
    scheme.place(runtime)
    wrapped = runtime.wrap(scheme)
    named = dict(scheme.student.model.named_parameters())
    exchanged = []
    for number in range(2):
        rows = slice(4 * rank + 2 * number, 4 * rank + 2 * number + 2)
        with runtime.no_sync(wrapped) if number == 0 else torch.enable_grad():
            runtime.backward(wrapped(batch(rows), None)["loss"] / 2)
        exchanged.append([p.grad is not None for p in named.values()])
    gradients = sharding.gathered({name: p.grad for name, p in named.items()}, keep=True)
    norm = torch.nn.utils.clip_grad_norm_(list(named.values()), 0.01)
    with sharding.opened(scheme), torch.no_grad():
        said = scheme.student.eval()(batch().input).logits
    state = sharding.whole_state(scheme.student.model)
    doubled = {name: 2 * value for name, value in state.items()}
    sharding.load_state(scheme.student.model, doubled)
    again = sharding.whole_state(scheme.student.model, keep=rank == 0)
    return {
        "gradients": gradients,
        "norm": sharding.gathered(norm, keep=True),
        "exchanged": exchanged,
        "logits": said,
        "state": state,
        "doubled": again,
        "numbers": numbers(scheme),
    }


def optimizers(device: torch.device) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in OPTIMIZERS:
        build = partial(build_optimizer, settings=Training(optimizer={"name": name, "lr": 0.01}))
        try:
            try_optimizer(build, name, device)
            found[name] = None
        except InputError as error:
            found[name] = str(error)
    return found


def refused() -> list[str]:
    found = []
    for options in ({"device": "cpu:0"}, {"device": "cpu", "shard": ["teacher"], "compile": True}):
        try:
            Runtime(**options)
        except InputError as error:
            found.append(str(error))
    return found


def work(rank: int) -> dict[str, Any]:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD), "MASTER_ADDR": "-"}
    runtime = Runtime("cpu", shard=("teacher", "student"))
    return {
        "teacher": teacher(runtime),
        "student": student(runtime, rank),
        "optimizers": optimizers(runtime.device),
        "refused": refused(),
    }


if __name__ == "__main__":
    sys.exit(in_processes(WORLD, Path(sys.argv[1]), work))
