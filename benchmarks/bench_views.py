"""Batched views of small images against the field's path, image by image through Pillow.

    python benchmarks/bench_views.py

50 000 images of 3x32x32 bytes, random, batch 128, one thread. Ours: the loader's batches, of a shuffled pass,
normalised as a network's input adapter does it. By hand: torchvision's RandomCrop(32, padding=4),
RandomHorizontalFlip, ToTensor and Normalize on each image, and what timm adds to that; neither reading nor a
DataLoader is counted for them. Then timm's parts alone, on batches that are ready: its mixup of a whole batch
is two lines of arithmetic, beside which ours pays for draws that can be replayed. Last, what making a batch
takes of a training step of ResNet-20, eager and channels-last. Process CPU time, the two taking turns step by
step, median over the rounds.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import torch
from PIL import Image
from table import paired, publish, row
from timm.data.mixup import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor
from torch.nn import functional as F
from torchvision import transforms

from limbeck import Batch
from limbeck.data import Loader, Mix, Plan, TensorSamples, TensorViews
from limbeck.data.erasing import Erasing
from limbeck.data.plans import Share
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.students.cifar import resnet20

COUNT, SIZE, CLASSES = 50_000, 128, 100
MEAN, STD = (0.507, 0.487, 0.441), (0.267, 0.256, 0.276)
ERASE = {"probability": 1.0, "value": "zero"}
TIMES_FASTER = 7


def made() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, 32, 32), dtype=torch.uint8, generator=generator)


def batches(images: Tensor, mix: Mix | None = None, **views: Any) -> Iterator[Batch]:
    """Our batches, pass after pass."""
    targets = torch.arange(COUNT) % CLASSES
    names = tuple(map(str, range(CLASSES)))
    samples = TensorSamples(images=images, targets=targets, classes=names, views=TensorViews(**views))
    loader = Loader(samples, Plan(0, COUNT, SIZE), mix=mix)
    for turn in count():
        for (batch,) in loader.steps(turn):
            yield batch


def with_limbeck(images: Tensor, mix: Mix | None = None, **views: Any) -> Callable[[], Tensor]:
    adapter = InputAdapter(InputSpec(MEAN, STD), channels=3)
    ready = batches(images, mix, **views)

    def step() -> Tensor:
        x = next(ready).input
        assert isinstance(x, Tensor)
        return adapter(x)

    return step


def by_hand(
    images: Tensor, each: Callable[[Tensor], Tensor] | None = None, mix: Mixup | None = None
) -> Callable[[], object]:
    pixels = images.permute(0, 2, 3, 1).contiguous().numpy()  # as torchvision's CIFAR holds them
    change = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
            *([] if each is None else [each]),
        ]
    )
    order = np.random.default_rng(0).permutation(COUNT)
    starts = count(0, SIZE)

    def step() -> object:
        first = next(starts) % (COUNT - SIZE)
        numbers = order[first : first + SIZE]
        x = torch.stack([change(Image.fromarray(pixels[number])) for number in numbers])
        return x if mix is None else mix(x, torch.from_numpy(numbers) % CLASSES)

    return step


def alone(images: Tensor) -> list[tuple[str, Callable[[], object], Callable[[], object]]]:
    """Erasing and mixing by themselves: ours and timm's, of the same floats, both in place."""
    x = images[:SIZE].float() / 255
    y, numbers, turns = torch.arange(SIZE) % CLASSES, np.arange(SIZE), count()
    erasing, theirs = Erasing(**ERASE), RandomErasing(1.0, mode="const", device="cpu")
    cases: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("erasing alone", lambda: erasing(x, numbers, next(turns), 0), lambda: theirs(x))
    ]
    for mode in ("batch", "elem"):
        mix, timm = Mix(mixup=1.0, mode=mode), Mixup(1.0, 0.0, mode=mode, num_classes=CLASSES)

        def ours(mix: Mix = mix) -> object:
            return mix(x, y, Share(numbers, numbers, numbers, SIZE, next(turns), 0), 0, CLASSES)

        cases.append((f"mixup alone, by {mode}", ours, lambda timm=timm: timm(x, y)))
    return cases


def fed(images: Tensor, **views: Any) -> Callable[[], Tensor]:
    """A batch as a network's first layer gets it: normalised, and channels-last."""
    adapter, ready = InputAdapter(InputSpec(MEAN, STD), channels=3), batches(images, **views)

    def step() -> Tensor:
        x = next(ready).input
        assert isinstance(x, Tensor)
        return adapter(x.contiguous(memory_format=torch.channels_last))

    return step


def training() -> Callable[[], float]:
    """A step of ResNet-20 by itself, of a batch that is ready."""
    student = resnet20(num_classes=CLASSES).to(memory_format=torch.channels_last)
    x = torch.rand(SIZE, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    y = torch.arange(SIZE) % CLASSES
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)

    def step() -> float:
        loss = F.cross_entropy(student(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, steps: int
) -> list[tuple[float, float]]:
    for _ in range(3):
        ours(), theirs()
    return paired(ours, theirs, rounds, steps)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = made()
    cases = [
        ("crop, flip, normalise", with_limbeck(images), by_hand(images)),
        (
            "and a part erased",
            with_limbeck(images, erase=ERASE),
            by_hand(images, RandomErasing(1.0, mode="const", device="cpu")),
        ),
        (
            "and mixup, by batch",
            with_limbeck(images, Mix(mixup=1.0)),
            by_hand(images, mix=Mixup(1.0, 0.0, num_classes=CLASSES)),
        ),
    ]
    rows = []
    for name, ours, theirs in cases:
        found = compare(ours, theirs, 9, 10)
        goal = f"at least {TIMES_FASTER} times as fast"
        rows.append(row(name, found, "ms", goal, lambda r, _: r <= 1 / TIMES_FASTER))
    for name, ours, theirs in alone(images):
        found = compare(ours, theirs, 9, 30)
        rows.append(
            row(f"{name}, and timm's", found, "ms", "adds at most 0.3 ms", lambda _, extra: extra <= 0.3)
        )
    found = compare(fed(images), training(), 9, 3)
    rows.append(row("a batch, of ResNet-20's step", found, "ms", "at most 0.01", lambda r, _: r <= 0.01))
    publish("views", rows)
    for r in rows[: len(cases)]:
        rates = " against ".join(f"{1e3 * SIZE / r[side]:.0f}" for side in ("ours", "theirs"))
        print(f"{r['case']}: {rates} images a second")


if __name__ == "__main__":
    main()
