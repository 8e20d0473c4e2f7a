"""`kd` beside the formula as a chain of operations: loss, and gradient of the student's logits.

    python benchmarks/bench_kd.py

Float32, eager, one thread. Process CPU time, the two taking turns, median over the rounds. Each round has
tensors of its own: the chain's time is partly that of fresh memory, and how much of it there is depends on
where the tensors lie. With an allocator that gives nothing back to the system the ratio of many logits is
higher: MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=2000000000 in the environment shows it.

Few logits take the chain of operations in `kd` too; there the row shows that asking costs nothing.
"""

from collections.abc import Callable

import torch
from table import paired, publish, row
from torch import Tensor
from torch.nn import functional as F

from limbeck.functional import kd

TEMPERATURE, ROUNDS = 4.0, 11
SHAPES = {(256, 1000): 0.5, (1024, 1000): 0.5, (128, 10): 1.0, (64, 100): 1.0}
"""Samples and classes, and the ratio that is the goal."""


def chain(student: Tensor, teacher: Tensor) -> Tensor:
    """The equation as torch has it."""
    ours, theirs = (F.log_softmax(z / TEMPERATURE, dim=1) for z in (student, teacher))
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * TEMPERATURE**2


def ours(student: Tensor, teacher: Tensor) -> Tensor:
    loss: Tensor = kd(student, teacher, temperature=TEMPERATURE)
    return loss


def step(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        (gradient,) = torch.autograd.grad(loss(student, teacher), student)
        return gradient

    return run


def turns(samples: int, classes: int, seed: int) -> tuple[float, float]:
    """One round: seconds of a step, ours and the chain's."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (3 * torch.randn(samples, classes, generator=generator) for _ in range(2))
    sides = [step(loss, student.requires_grad_(), teacher) for loss in (ours, chain)]
    difference = (sides[0]() - sides[1]()).abs().max() / sides[1]().abs().max()
    assert difference < 1e-5, f"the gradients differ by {difference:.1e}"
    (found,) = paired(*sides, rounds=1, steps=max(20, 400_000 // (samples * classes)))
    return found


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for (samples, classes), goal in SHAPES.items():
        found = [turns(samples, classes, seed) for seed in range(ROUNDS)]
        case = f"{samples}x{classes}"
        rows.append(row(case, found, "µs", f"at most {goal:g}", lambda r, extra, goal=goal: r <= goal))
    publish("kd", rows)


if __name__ == "__main__":
    main()
