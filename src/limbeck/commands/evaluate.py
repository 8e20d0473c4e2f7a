"""`limbeck evaluate`."""

from pathlib import Path
from typing import Any

import typer

from limbeck import data as data_sources
from limbeck import models, weights
from limbeck.commands.common import emit, screen
from limbeck.data import Data, evaluation_batches
from limbeck.errors import InputError
from limbeck.evaluation.metrics import evaluate as score
from limbeck.inputs import InputAdapter
from limbeck.knowledge import Batch
from limbeck.phase import ask
from limbeck.reading import read_yaml
from limbeck.taps import Tapped
from limbeck.training.runtime import Runtime

__all__ = ["evaluate", "options"]


def evaluate(
    model: str, data: str, weight_file: str | None, given: list[str], batch: int, as_json: bool
) -> None:
    """Print a model's figures on the test split."""
    source = f"folder:{data}" if ":" not in data and Path(data).is_dir() else data
    loaded = data_sources.load(source)
    display = screen()
    with display.bar("evaluating", len(loaded.test), "samples") as bar:
        found = (
            _onnx(model, loaded, batch, bar)
            if model.endswith(".onnx")
            else _network(model, loaded, weight_file, given, batch, bar)
        )
    figures = found.to_json()
    if as_json:
        emit({"model": model, "data": data, "metric": "accuracy", **figures})
        return
    correct = round(found.accuracy * found.samples)
    typer.echo(f"{model} on {data}: {found.samples} test samples")
    typer.echo(f"accuracy {found.accuracy:.4f} ({correct} right)")
    typer.echo(f"loss {found.loss:.4f}, calibration error {found.ece:.4f}")


def _onnx(path: str, data: Data, batch: int, bar: Any) -> Any:
    from limbeck.export.runtime import OnnxModel

    model = OnnxModel(Path(path))

    def answer(asked: Batch) -> Any:
        return model(asked.input)  # type: ignore[arg-type]

    found, _ = score(
        answer, evaluation_batches(data.test, batch), classes=len(data.classes), progress=bar.advance
    )
    return found


def _network(name: str, data: Data, weight_file: str | None, given: list[str], batch: int, bar: Any) -> Any:
    # A folder by its name alone is a run's.
    name = f"run:{name}" if ":" not in name and Path(name).is_dir() else name
    built = models.build(
        name,
        classes=len(data.classes),
        channels=data.train.channels,
        size=data.train.size,
        options=options(given),
        where="model",
        beside=None,
    )
    if weight_file is not None:
        weights.load(
            built.model, weights.find(weight_file, beside=None, where="--weights"), where="--weights"
        )
    runtime = Runtime()
    network = Tapped(built.model, (), InputAdapter(built.input, channels=data.train.channels), who="model")
    runtime.place(network)
    found, _ = ask(network, data.test, runtime, batch, classes=len(data.classes), progress=bar.advance)
    return found


def options(given: list[str]) -> dict[str, Any]:
    """`key=value` words as a mapping, values read as YAML."""
    found: dict[str, Any] = {}
    for word in given:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InputError(f'--option: "{word}" is not of the form key=value.')
        found[key] = read_yaml(text)
    return found
