"""What each method costs a training step.

    python benchmarks/bench_methods.py [METHOD ...]

ResNet-56 teaches ResNet-20, batch 64 at 32x32 pixels, eager, one thread. Ours: a step with cross-entropy and
the method at its defaults, on the layers that `layers: auto` gives it. Theirs: the same step without the
method, the teacher's answer included. So the ratio is what the method's own arithmetic, layers and taps add.
Process CPU time, the two taking turns step by step, median over the rounds. A method's first stage is left
out, and what it trains alone (AB, FSP) is measured as a term beside cross-entropy. SimKD's student ends in
the teacher's classifier.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from table import paired, publish, row

from limbeck import Batch, Frozen, Objective, Offline, Runtime, Tapped, Term, Trainer, Training, methods
from limbeck.assembly import setup
from limbeck.composing import compose
from limbeck.pairing import settle_terms
from limbeck.students.cifar import resnet20, resnet56

SAMPLES, SIZE, STEPS = 4096, 64, 100_000
ROUNDS, TURNS = 5, 2
SMALLER: dict[str, dict[str, Any]] = {
    "holistic_graph": {"negatives": 2048},
    "contrastive": {"negatives": 2048},
}
"""Options where the defaults need more samples than a small task has."""


class Endless:
    """The same batch again and again: what is measured is the step, not the data."""

    complete = True

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return STEPS

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        while True:
            yield [self.batch]


def compared(name: str) -> bool:
    """Whether a method compares a student's answer on images with a teacher's."""
    kind = methods.get(name)
    return kind.kind != "label" and not name.startswith("token_")


def stepper(name: str | None) -> Callable[[], object]:
    """Steps of a training with a method beside cross-entropy; None: without, but for the teacher's answer."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        torch.rand(SIZE, 3, 32, 32, generator=generator),
        torch.arange(SIZE) % 10,
        torch.arange(SIZE),
        torch.zeros(SIZE, dtype=torch.int64),
    )
    # A weight of zero would change nothing: the student's gradient is computed all the same.
    terms: dict[str, Term | float] = {"cross_entropy": 1.0}
    student, teacher = resnet20(), resnet56().eval()
    if name is not None:
        kind = methods.get(name)
        layers = None if kind.pairs == "none" else "auto"
        terms[name] = Term(weight=1e-6, layers=layers, **SMALLER.get(name, {}))
        terms = settle_terms(terms, Tapped(student), Tapped(teacher), batch)
    objective = Objective(terms)
    frozen = Frozen(Tapped(teacher, objective.teacher_taps, who="teacher"))
    if objective.reused is not None:
        student = compose(Tapped(student), objective, frozen, batch, 0)
    network = Tapped(student, objective.student_taps, who="student")
    targets = torch.arange(SAMPLES) % 10
    setup(network, objective, frozen if name else None, batch, SAMPLES, 10, 0, targets)
    scheme = Offline(network, objective, frozen)
    if name is None:
        scheme.objective.listens = True  # the teacher's answer is part of what the method is compared with
    settings = Training(epochs=1, optimizer={"name": "sgd", "lr": 1e-3, "momentum": 0.9})
    steps = Trainer(scheme, settings, Runtime("cpu"), STEPS).fit(Endless(batch))
    return lambda: next(steps)


def main(wanted: list[str]) -> None:
    torch.set_num_threads(1)
    plain = stepper(None)
    rows = []
    for name in wanted or [n for n in methods.names() if compared(n)]:
        ours = stepper(name)
        for _ in range(2):
            ours(), plain()
        found = paired(ours, plain, ROUNDS, TURNS)
        rows.append(row(name, found, "ms", "measured", lambda r, extra: True))
        print(f"{name}: {rows[-1]['ratio']:.3f}", file=sys.stderr, flush=True)
    publish("methods", rows)


if __name__ == "__main__":
    main(sys.argv[1:])
