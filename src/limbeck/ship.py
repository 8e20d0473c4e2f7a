"""What leaves the run: exported files, each run on real samples, and everything's latency side by side."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from limbeck import __version__
from limbeck.data import Data, evaluation_batches
from limbeck.data.samples import Samples
from limbeck.evaluation.figures import Figures
from limbeck.evaluation.measure import measure, model_file_bytes, onnx_runner, torch_runner
from limbeck.evaluation.metrics import evaluate
from limbeck.export.int8 import quantize_static
from limbeck.export.onnx import export_onnx
from limbeck.export.runtime import OnnxModel
from limbeck.files import atomic_folder
from limbeck.inputs import InputSpec

__all__ = ["FILES", "export", "latencies", "named", "pixels"]

FILES = {"onnx": "student.onnx", "int8": "student.int8.onnx"}
CALIBRATION = 512
"""Training samples that set the ranges of int8; more changes little."""


def named(form: str, stem: str = "student") -> str:
    """The name of the file of a format, for the student or for another network of the run."""
    return FILES[form].replace("student", stem, 1)


def pixels(samples: Samples, count: int, size: int = 64) -> Iterator[Tensor]:
    """The first samples of a split as images, in batches, without augmentation."""
    for first in range(0, min(count, len(samples)), size):
        index = np.arange(first, min(first + size, count, len(samples)), dtype=np.int64)
        images = samples.take(index, None, 0).input
        assert isinstance(images, Tensor)
        yield images


def export(
    network: nn.Module,
    spec: InputSpec,
    formats: Sequence[str],
    folder: Path,
    data: Data,
    name: str,
    *,
    batch: int = 500,
    stem: str = "student",
    figures: Figures | None = None,
) -> dict[str, dict[str, Any]]:
    """Write the student in the asked formats and evaluate each file on the test set.

    Args:
        network: the student behind its input adapter; takes pixels in [0, 1].
        spec: what the adapter does, for the file's notes.
        formats: some of `FILES`.
        folder: where the files go.
        data: test set for the figures, training set for calibration.
        name: the run's name, for the file's notes.
        batch: samples in one evaluation batch.
        stem: how the names of the files begin.
        figures: further figures of each file.

    Returns:
        For each format: file, accuracy, further figures, agreement with the network in torch, bytes.
    """
    if not formats:
        return {}
    example = next(pixels(data.test, 7))
    reference = evaluate(
        lambda b: _answer(network, b.input), evaluation_batches(data.test, batch), classes=len(data.classes)
    )[1]
    with contextlib.ExitStack() as after:
        # Only a step on the way to int8: it must neither stay nor replace a file of an earlier export.
        kept = folder / named("onnx", stem)
        draft = folder if "onnx" in formats else after.enter_context(atomic_folder(kept))
        onnx = export_onnx(network, example, draft / kept.name, metadata=_notes(spec, data, name))
        if "int8" in formats:
            quantize_static(onnx, pixels(data.train, CALIBRATION), folder / named("int8", stem))
    return {form: _entry(folder / named(form, stem), data, reference, batch, figures) for form in formats}


def _answer(network: nn.Module, images: Any) -> Tensor:
    device = next((p.device for p in network.parameters()), None)
    training = network.training
    network.eval()
    try:
        logits: Tensor = network(images if device is None else images.to(device))
    finally:
        network.train(training)
    return logits


def _entry(path: Path, data: Data, reference: Tensor, batch: int, figures: Figures | None) -> dict[str, Any]:
    model = OnnxModel(path)
    found, _ = evaluate(
        lambda b: model(b.input),  # type: ignore[arg-type]  # images are one tensor
        evaluation_batches(data.test, batch),
        classes=len(data.classes),
        teacher_logits=reference,
        figures=figures,
    )
    return {
        "file": path.name,
        "accuracy": found.figure("accuracy"),
        **{name: found.figure(name) for name in found.metrics},
        "agreement": found.agreement,
        "bytes": model_file_bytes(path),
    }


def _notes(spec: InputSpec, data: Data, name: str) -> dict[str, str]:
    normalised = {"mean": spec.mean, "std": spec.std, "size": spec.size, "included": True}
    return {
        "labels": json.dumps(list(data.classes)),
        "normalisation": json.dumps(normalised),
        "input": "float32 pixels in [0, 1], [batch, channels, height, width]",
        "limbeck": __version__,
        "recipe": name,
    }


def latencies(networks: dict[str, nn.Module], files: dict[str, Path], example: Tensor) -> dict[str, float]:
    """Median milliseconds of one sample on one thread, all side by side: torch eager, and exported files."""
    one = example[:1]
    calls = {name: torch_runner(network, one) for name, network in networks.items()}
    calls |= {name: onnx_runner(file, one) for name, file in files.items()}
    return {name: round(float(found["median_ms"]), 4) for name, found in measure(calls).items()}
