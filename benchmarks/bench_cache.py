"""A step that replays its teacher's answers against one that asks, and against training without a teacher.

    python benchmarks/bench_cache.py [--rounds 7] [--steps 2]

ResNet-56 teaches ResNet-20 on CIFAR-10 (real images and the published teacher where LIMBECK_DATA is set),
batch 128, crop and flip included on all sides. `naive` is the loop of a tutorial: eager, in PyTorch's usual
memory order, teacher and student in every step. Process CPU time, one thread, sides taking turns in one
process, median over the rounds; compiling is not counted.
"""

import argparse
import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from peers.task import images_task
from table import paired, publish, row
from torch.nn import functional as F

from limbeck import Batch, Frozen, Objective, Offline, Runtime, Tapped, Term, Trainer, Training
from limbeck.cache import Dense, Layout, Replay, Store, TopK, build, rows_of_pass, rows_of_shard
from limbeck.data import Plan
from limbeck.data.loader import Loader
from limbeck.data.samples import TensorSamples
from limbeck.data.views import TensorViews
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputAdapter, InputSpec
from limbeck.knowledge import Knowledge
from limbeck.teachers import Cached, Teacher

SAMPLES, BATCH = 2048, 128
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}


class Endless:
    """A loader's first pass again and again, its views made anew each time."""

    complete = True

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __len__(self) -> int:
        return 1_000_000

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        while True:
            yield from self.loader.steps(0)


def tapped(network: torch.nn.Module) -> Tapped:
    spec = InputSpec(IMAGENET_MEAN, IMAGENET_STD)
    return Tapped(network, (), InputAdapter(spec, channels=3))


def trained(
    feed: Endless, student: torch.nn.Module, teacher: Teacher | None, compile: bool
) -> Callable[[], object]:
    """Limbeck's trainer, with the teacher that is given or with none."""
    terms: dict[str, Term | float] = {"cross_entropy": 0.1, "kd": Term(weight=0.9, temperature=4.0)}
    objective = Objective(terms if teacher is not None else {"cross_entropy": 1.0})
    scheme = Offline(tapped(student), objective, teacher)
    settings = Training(epochs=1, optimizer={"name": "sgd", **SGD}, schedule={"name": "constant"})
    steps = Trainer(scheme, settings, Runtime("cpu", compile=compile), len(feed)).fit(feed)
    return lambda: next(steps)


def naive(feed: Endless, student: torch.nn.Module, teacher: torch.nn.Module) -> Callable[[], object]:
    """The loop of a tutorial."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    teacher.eval().requires_grad_(False)
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), **SGD)
    batches = feed.steps(0)

    def step() -> float:
        (batch,) = next(batches)
        x = (batch.input - mean) / std
        with torch.no_grad():
            taught = teacher(x)
        said = student(x)
        kd = F.kl_div(F.log_softmax(said / 4, 1), F.softmax(taught / 4, 1), reduction="batchmean")
        loss = 0.1 * F.cross_entropy(said, batch.target) + 0.9 * 16 * kd
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def answers(folder: Path, loader: Loader, teacher: Frozen, runtime: Runtime) -> Replay:
    """The teacher's answers to the first pass, in half precision."""
    plan = loader.plan
    store = Store(folder, {}, Layout(10, Dense(16)), rows_of_pass(plan, False), rows_of_shard(plan))
    build(store, teacher, loader, 1, runtime)
    return Replay(Store.open(folder), plan, False)


def thousand(folder: Path) -> Callable[[], object]:
    """Reads a batch of the 100 largest of 5000 classes."""
    plan = Plan(0, SAMPLES, BATCH)
    store = Store(folder, {}, Layout(5000, TopK(100, 4.0)), SAMPLES, SAMPLES)
    rows = store.layout.encode(Knowledge(torch.randn(SAMPLES, 5000)), np.zeros(SAMPLES, np.uint64))
    store.write(store.shards(0)[0], rows)
    store.finish(1)
    replay = Replay(Store.open(folder), plan, False)
    keys = torch.stack(
        [torch.arange(BATCH) * 7, torch.zeros(BATCH, dtype=torch.int64), torch.arange(BATCH)], 1
    )
    return lambda: replay.take(keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    task = images_task(BATCH)
    assert isinstance(task.samples, TensorSamples)
    samples = task.samples.subset(range(SAMPLES))
    samples = TensorSamples(
        images=samples.images,
        targets=samples.targets,
        classes=samples.classes,
        views=TensorViews(crop=4, flip=True),
    )
    loader = Loader(samples, Plan(0, SAMPLES, BATCH))
    feed = Endless(loader)
    with tempfile.TemporaryDirectory() as folder:
        teacher = Frozen(tapped(task.networks()[0]))
        runtime = Runtime("cpu")
        teacher.place(runtime)
        (Path(folder) / "ten").mkdir(), (Path(folder) / "many").mkdir()
        replay = answers(Path(folder) / "ten", loader, teacher, runtime)
        (first,) = next(loader.steps(0))
        read = lambda: replay.take(first.keys)  # noqa: E731
        many = thousand(Path(folder) / "many")
        plain_loop = naive(feed, task.networks()[1], task.networks()[0])
        sides = {
            (kind, compile): trained(feed, task.networks()[1], kind and Cached(replay), compile)
            for compile in (False, True)
            for kind in (True, None)
        }
        for step in (plain_loop, *sides.values(), read, many):
            step(), step(), step()
        gc.collect()
        gc.freeze()
        rounds, steps = asked.rounds, asked.steps
        cached, alone = sides[True, True], sides[None, True]
        publish(
            "cache",
            [
                row(
                    "cached, compiled, of naive",
                    paired(cached, plain_loop, rounds, steps),
                    "ms",
                    "at most .37",
                    lambda r, extra: r <= 0.37,
                ),
                row(
                    "cached, compiled, of plain training",
                    paired(cached, alone, rounds, steps),
                    "ms",
                    "at most 1.02",
                    lambda r, extra: r <= 1.02,
                ),
                row(
                    "cached, eager, of plain training",
                    paired(sides[True, False], sides[None, False], rounds, steps),
                    "ms",
                    "at most 1.02",
                    lambda r, extra: r <= 1.02,
                ),
                row(
                    "reading a batch, of such a step",
                    paired(read, alone, rounds, steps),
                    "ms",
                    "at most .001",
                    lambda r, extra: r <= 0.001,
                ),
                row(
                    "reading 100 of 5000 classes, of a step",
                    paired(many, alone, rounds, steps),
                    "ms",
                    "at most .01",
                    lambda r, extra: r <= 0.01,
                ),
            ],
        )
        gc.unfreeze()


if __name__ == "__main__":
    main()
