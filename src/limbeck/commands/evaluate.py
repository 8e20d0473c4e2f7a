"""`limbeck evaluate`."""

from pathlib import Path
from typing import Any

import typer

from limbeck import data as data_sources
from limbeck import locating, weights
from limbeck.asking import ask
from limbeck.build import load_data
from limbeck.commands.common import build, foreign, screen
from limbeck.commands.viewing import evaluation_views
from limbeck.data import Data, evaluation_batches
from limbeck.errors import InputError
from limbeck.evaluation.metrics import evaluate as score
from limbeck.export.runtime import OnnxModel
from limbeck.inputs import InputAdapter
from limbeck.knowledge import Batch
from limbeck.models import Built, hub
from limbeck.reading import read_yaml
from limbeck.runfolder import RunFolder
from limbeck.taps import Tapped
from limbeck.training.runtime import Runtime

__all__ = ["build_on", "evaluate", "load_for", "options"]


def evaluate(
    model: str,
    data: str,
    weight_file: str | None,
    given: list[str],
    batch: int,
    size: int | None,
    as_json: bool,
) -> dict[str, Any]:
    """Print a model's figures on the test split."""
    onnx = model.endswith(".onnx")
    if onnx and (weight_file is not None or given):
        raise InputError("--weights, --option: an ONNX file brings its own; leave them out.")
    loaded = load_for(model, data, size)
    display = screen()
    with display.bar("evaluating", len(loaded.test), "samples") as bar:
        found = (
            _onnx(model, loaded, batch, bar)
            if onnx
            else _network(model, loaded, weight_file, given, batch, bar)
        )
    figures = found.to_json()
    del figures["metrics"]  # further figures are a recipe's to name
    if not as_json:
        typer.echo(f"{model} on {data}: {found.samples} test samples")
        if figures["accuracy"] is None:
            typer.echo("none of them has a label, so there is nothing to compare with")
        else:
            correct = round(found.accuracy * found.samples)
            typer.echo(f"accuracy {found.accuracy:.4f} ({correct} right)")
            typer.echo(f"loss {found.loss:.4f}, calibration error {found.ece:.4f}")
    return {"model": model, "data": data, "metric": "accuracy", **figures}


def load_for(model: str, data: str, size: int | None) -> Data:
    """The data; what a run, a pushed student or an ONNX file is known to expect of a folder's images is asked
    of them, where `size` does not say it."""
    source = f"folder:{data}" if ":" not in data and Path(data).is_dir() else data
    run = RunFolder(Path(model.removeprefix("run:")))
    if size is None and run.recipe.is_file():
        recipe = run.load_recipe()
        if recipe.data.source == source:
            return load_data(recipe)  # the very same views, so that the figures are those of the run
    known = _views(model, run) if size is None and source.startswith("folder:") else None
    return data_sources.load(source, size=size, views=known)


def _views(model: str, run: RunFolder) -> dict[str, Any]:
    """How a model is known to have been shown a folder's images, as options of `data.views`."""
    if model.startswith("hf:"):
        return hub.views(model.removeprefix("hf:"), None, "model")
    if run.recipe.is_file() and (seen := evaluation_views(run.load_recipe())):
        return seen
    sides: tuple[int | None, ...] = ()
    weight_file = run.path / "student.safetensors"
    if weight_file.is_file():
        sides = tuple(int(n) for n in weights.metadata(weight_file).get("size", "").split("x") if n)
    elif model.endswith(".onnx"):
        sides = OnnxModel(Path(model)).shape[2:]
    return {"size": sides[0]} if len(sides) == 2 and sides[0] is not None and sides[0] == sides[1] else {}


def _onnx(path: str, data: Data, batch: int, bar: Any) -> Any:
    model = OnnxModel(Path(path))

    def answer(asked: Batch) -> Any:
        return model(asked.input)  # type: ignore[arg-type]  # images are one tensor

    found, _ = score(
        answer, evaluation_batches(data.test, batch), classes=len(data.classes), progress=bar.advance
    )
    return found


def build_on(name: str, data: Data, weight_file: str | None, given: list[str]) -> Built:
    """A model for these data by the words of the command line, its weights loaded."""
    own = None
    if name.startswith("hf:") and weight_file is None:
        # What was published is meant, its classifier included: a new one, for these classes, knows nothing.
        own = hub.answers(name.removeprefix("hf:"), None, "model")
    built: Built = build(
        name,
        classes=own or len(data.classes),
        channels=data.train.channels,
        size=data.train.size,
        options=options(given),
    )
    if weight_file is not None:
        weights.load(
            built.model, locating.find(weight_file, beside=None, where="--weights"), where="--weights"
        )
    return built


def _network(name: str, data: Data, weight_file: str | None, given: list[str], batch: int, bar: Any) -> Any:
    built = build_on(name, data, weight_file, given)
    runtime = Runtime()
    network = Tapped(built.model, (), InputAdapter(built.input, channels=data.train.channels), who="model")
    runtime.place(network)
    with foreign(name):
        found, _ = ask(network, data.test, runtime, batch, classes=len(data.classes), progress=bar.advance)
    return found


def options(given: list[str]) -> dict[str, Any]:
    """`key=value` words as a mapping, values read as YAML."""
    found: dict[str, Any] = {}
    for word in given:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise InputError(f'--option: "{word}" is not of the form key=value.')
        found[key] = read_yaml(text, f"--option {key}")
    return found
