"""What a step of each kind of online distillation costs over the same step of the student alone.

    python benchmarks/bench_online.py

ResNet-20 and its peers, as many as the kind has without a `peers` in the recipe, 32 images of 32x32 pixels,
eager, one thread: what is heard, forward and back, without the optimiser. Codistillation has had its first
exchange. Process CPU time, all taking turns step by step, median over the rounds.
"""

from collections.abc import Callable

import numpy as np
import torch
from table import publish_sides, side_row, turns

from limbeck import Objective, Offline, Runtime, Tapped
from limbeck.arranging import scheme_for
from limbeck.build import load_data, make_objective, make_student
from limbeck.data import Data
from limbeck.knowledge import Batch
from limbeck.recipe import Recipe
from limbeck.schemes import Scheme, catalogue

SIZE, ROUNDS, TURNS = 32, 9, 2


def recipe(kind: str) -> Recipe:
    return Recipe.from_dict(
        {
            "name": "online",
            "student": {"model": "cifar:resnet20", "input": {"size": 32}},
            "data": {"source": "digits", "batch_size": SIZE, "views": {"crop": 1}},
            "objective": catalogue.get("online", kind).published["objective"],
            "scheme": {"name": "online", "kind": kind},
            "train": {"epochs": 1, "device": "cpu"},
        }
    )


def step(scheme: Scheme, batch: Batch, runtime: Runtime) -> Callable[[], object]:
    scheme.place(runtime)
    scheme.train()
    scheme.before_step(0.5)
    return lambda: scheme(batch, scheme.teach(batch))["loss"].backward()


def made(kind: str, data: Data) -> Scheme:
    chosen = recipe(kind)
    objective = make_objective(chosen.objective, chosen.beside)
    scheme = scheme_for(chosen, "student", data, 0, make_student(chosen, data, 0), objective, None)
    if kind == "codistillation":
        for _ in range(50):
            scheme.after_step()
    return scheme


def main() -> None:
    torch.set_num_threads(1)
    runtime = Runtime("cpu")
    data = load_data(recipe("mutual"))
    batch = runtime.put(data.train.take(np.arange(SIZE), 0, 0))
    student = make_student(recipe("mutual"), data, 0)
    plain = Offline(Tapped(student.model, (), student.adapter), Objective({"cross_entropy": 1.0}))
    sides = {"alone": step(plain, batch, runtime)}
    sides |= {kind: step(made(kind, data), batch, runtime) for kind in catalogue.kinds("online")}
    for side in sides.values():
        side()
    spent = turns(sides, ROUNDS, TURNS)
    task = f"forward and back, {SIZE} images"
    publish_sides("online", [side_row(task, side, t, spent["alone"]) for side, t in spent.items()], "", {})


if __name__ == "__main__":
    main()
