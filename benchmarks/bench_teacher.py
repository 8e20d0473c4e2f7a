"""What a frozen teacher costs in each backend, relative to eager.

    python benchmarks/bench_teacher.py

ResNet-56 behind its input adapter, batch 128 of 32x32, channels-last, one thread. Process CPU time, the two
taking turns, median over the rounds. Where LIMBECK_DATA is set: trained weights, and real images to compare
the answers on; random ones otherwise. Rows of libraries that are not installed are left out.

The goals were measured by hand on a processor whose convolutions take less of eager's time than those of
others. `convolutions alone` says how much they take here: an exact backend gains what is left, and no more
unless its convolutions are faster.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from table import paired, publish, row
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import Tapped
from limbeck.backends import build, build_many, drift
from limbeck.data import load as load_data
from limbeck.errors import InputError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputAdapter, InputSpec
from limbeck.students.cifar import ResNet, resnet56
from limbeck.weights import load as load_weights

SIZE, ROUNDS, TURNS, WARMUP = 128, 9, 2, 2
TEMPERATURE, CALIBRATION, COMPARED = 4.0, 4, 8
GOALS = {"compile": 0.69, "onnxruntime": 0.80, "openvino": 0.61, "int8": 0.20}
WEIGHTS = "resnet56-4bfd9763.th"


def teacher(folder: Path | None) -> Tapped:
    model = resnet56(shortcut="pad")
    if folder is not None and (folder / "weights" / WEIGHTS).is_file():
        load_weights(model, folder / "weights" / WEIGHTS, where="teacher")
    else:
        with torch.no_grad():
            model.train()(torch.rand(SIZE, 3, 32, 32))
    adapter = InputAdapter(InputSpec(IMAGENET_MEAN, IMAGENET_STD), channels=3)
    network = Tapped(model, (), adapter).eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def batches(folder: Path | None) -> tuple[list[Tensor], list[Tensor]]:
    """Batches of training images for calibration, and of test images."""
    if folder is None:
        found = [torch.rand(SIZE, 3, 32, 32) for _ in range(CALIBRATION + COMPARED)]
    else:
        data = load_data("cifar10", root=folder)
        found = [
            split[i * SIZE : (i + 1) * SIZE].float() / 255
            for split, count in ((data.train.images, CALIBRATION), (data.test.images, COMPARED))
            for i in range(count)
        ]
    found = [images.contiguous(memory_format=torch.channels_last) for images in found]
    return found[:CALIBRATION], found[CALIBRATION:]


def convolutions(network: Tapped, x: Tensor) -> Callable[[], object]:
    """The convolutions of the network, on inputs of the right shapes, and nothing else."""
    model = network.model
    assert isinstance(model, ResNet)
    inputs: dict[tuple[int, ...], Tensor] = {}
    work: list[tuple[nn.Conv2d, Tensor]] = []

    def note(layer: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(layer, nn.Conv2d)
        shape = tuple(args[0].shape)
        work.append((layer, inputs.setdefault(shape, args[0].clone())))

    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()

    def call() -> None:
        with torch.no_grad():
            for layer, given in work:
                F.conv2d(given, layer.weight, None, layer.stride, layer.padding)

    return call


def compared(
    case: str, ours: Callable[[], object], theirs: Callable[[], object], goal: float | None
) -> dict[str, Any]:
    for _ in range(WARMUP):
        ours(), theirs()
    text = "for comparison" if goal is None else f"at most {goal:.2f}"
    return row(
        case, paired(ours, theirs, ROUNDS, TURNS), "ms", text, lambda ratio, _: goal is None or ratio <= goal
    )


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    given = os.environ.get("LIMBECK_DATA")
    folder = Path(given) if given else None
    network, (calibration, test) = teacher(folder), batches(folder)
    x = test[0]
    eager = build("eager", network, x)
    rows = [compared("convolutions alone", convolutions(network, x), lambda: eager(x), None)]
    for name, goal in GOALS.items():
        try:
            backend = build(name, network, x, threads=1, calibration=calibration)
        except InputError as error:
            print(f"{name}: left out: {error}")
            continue
        found = drift(backend, network, test, TEMPERATURE)
        furthest = max(float((backend(b).logits - eager(b).logits).abs().max()) for b in test)
        print(
            f"{backend.name}: KL {found.kl:.3g} at T={TEMPERATURE:g}, agreement {found.agreement:.4f} on "
            f"{found.samples} samples, largest difference of a logit {furthest:.3g}"
        )
        rows.append(compared(f"{backend.name}, ResNet-56", lambda b=backend: b(x), lambda: eager(x), goal))
        backend.close()
    three = [network, *(teacher(None) for _ in range(2))]
    together, apart = build_many(three, x), [build("eager", one, x) for one in three]
    rows.append(
        compared(
            "compile, three ResNet-56 in one graph", lambda: together(x), lambda: [e(x) for e in apart], 0.69
        )
    )
    publish("teacher", rows)


if __name__ == "__main__":
    main()
