"""The angles of relational distillation in blocks of anchors, beside all of them at once.

    python benchmarks/bench_relational_angle.py

Loss and gradient of the student, float32, one thread. Time: process CPU time, the two taking turns, median
over the rounds. Memory: the most bytes that were allocated at once within a step, by the allocator's own
record, so what is kept for back-propagation and what is only passing through both count.
"""

from collections.abc import Callable
from typing import Any

import torch
from table import paired, publish, row
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from limbeck.functional import relational_angle


def at_once(student: Tensor, teacher: Tensor) -> Tensor:
    """All directions, [B, B, D], and all cosines, [B, B, B]: the equation as it stands."""

    def cosines(x: Tensor) -> Tensor:
        spokes = F.normalize(x[None] - x[:, None], dim=2)
        return spokes @ spokes.mT

    with torch.no_grad():
        theirs = cosines(teacher)
    return F.smooth_l1_loss(cosines(student), theirs)


def step(loss: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor) -> Callable[[], Tensor]:
    def run() -> Tensor:
        (gradient,) = torch.autograd.grad(loss(student, teacher), student)
        return gradient

    return run


def peak(run: Callable[[], object]) -> float:
    """The most bytes allocated at once within a call, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    assert record.profiler is not None
    events = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def memory(case: str, ours: float, theirs: float) -> dict[str, Any]:
    ratio = round(ours / theirs, 4)
    return {
        "case": case,
        "ours": round(ours, 4),
        "theirs": round(theirs, 4),
        "unit": "MiB",
        "ratio": ratio,
        "spread": [ratio, ratio],
        "rounds": 1,
        "goal": "at most 0.1",
        "holds": ratio <= 0.1,
    }


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for width in (64, 128):
        generator = torch.Generator().manual_seed(0)
        student = torch.randn(256, width, generator=generator).requires_grad_()
        teacher = torch.randn(256, width, generator=generator)
        ours, theirs = (step(loss, student, teacher) for loss in (relational_angle, at_once))
        difference = (ours() - theirs()).abs().max() / theirs().abs().max()
        assert difference < 1e-5, f"the gradients differ by {difference:.1e}"
        pairs = paired(ours, theirs, rounds=7, steps=1)
        case = f"256 samples, {width} wide"
        rows.append(row(f"{case}: time", pairs, "ms", "at most 0.6", lambda r, extra: r <= 0.6))
        rows.append(memory(f"{case}: memory", peak(ours), peak(theirs)))
    publish("relational_angle", rows)


if __name__ == "__main__":
    main()
