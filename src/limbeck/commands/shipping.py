"""`limbeck export`, `limbeck measure` and `limbeck report`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer
from torch import Tensor, nn

from limbeck import models, ship, weights
from limbeck.build import load_data, restored
from limbeck.commands.common import build, count, figure, foreign, milliseconds, screen, size, table
from limbeck.commands.evaluate import build_on, load_for
from limbeck.data import Data
from limbeck.errors import InputError, unknown
from limbeck.evaluation.measure import measure as time_all
from limbeck.evaluation.measure import model_file_bytes, onnx_runner, torch_runner
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.models.base import PREFIXES
from limbeck.runfolder import RunFolder

__all__ = ["export", "measure", "report"]


def export(
    source: str,
    form: str,
    out: Path | None,
    data_source: str | None,
    weight_file: str | None,
    given: list[str],
    as_json: bool,
) -> dict[str, Any]:
    """Write a finished run's student, or a model by name, as a file to deploy."""
    if form not in ship.FILES:
        raise unknown("format", form, ship.FILES, where="--format")
    run = Path(source.removeprefix("run:"))
    if run.exists() or source.partition(":")[0] not in PREFIXES or source.startswith("run:"):
        if data_source or weight_file or given:
            raise InputError("--data, --weights, --option: a run brings its own; leave them out.")
        data, spec, network, name = _of_run(run)
        folder = out or run
    else:
        data, spec, network, name = _by_name(source, data_source, weight_file, given)
        folder = out or Path()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be used as an output folder: {error.strerror}.") from error
    screen().say(f"writing {folder / ship.FILES[form]} and evaluating it")
    found = ship.export(network, spec, [form], folder, data, name)[form]
    if not as_json:
        typer.echo(
            f"{folder / found['file']}: {size(found['bytes'])}, accuracy {figure(found['accuracy'])}, "
            f"names the same class as the network in torch on {found['agreement']:.2%} of the test samples"
        )
    return {"format": form, **found, "path": str(folder / found["file"])}


def _of_run(folder: Path) -> tuple[Data, InputSpec, nn.Module, str]:
    """The data of a finished run, and its student behind its adapter."""
    recipe = RunFolder(folder).load_recipe()
    if not (folder / "student.safetensors").is_file():
        raise InputError(f"{folder} is no finished run: it holds no student.safetensors.")
    data = load_data(recipe)
    student = restored(recipe, data, recipe.seed_list[0], folder / "student.safetensors")
    return data, student.spec, nn.Sequential(student.adapter, student.model).eval(), recipe.name


def _by_name(
    model: str, data_source: str | None, weight_file: str | None, given: list[str]
) -> tuple[Data, InputSpec, nn.Module, str]:
    """A model as a recipe names it, behind its adapter, and the data that it is checked on."""
    if data_source is None:
        raise InputError("--data: a model by name needs the data that its file is checked and calibrated on.")
    data = load_for(model, data_source, None)
    built = build_on(model, data, weight_file, given)
    adapter = InputAdapter(built.input, channels=data.train.channels)
    return data, built.input, nn.Sequential(adapter, built.model).eval(), model


def measure(
    targets: list[str], threads: int, batch: int, shape: str, classes: int, as_json: bool
) -> dict[str, Any]:
    """Time files and models side by side."""
    parts = shape.lower().split("x")
    if len(parts) != 3 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise InputError(f'--shape: must be CxHxW, such as 3x32x32; got "{shape}".')
    channels, height, width = map(int, parts)
    calls: dict[str, Callable[[], object]] = {}
    facts: dict[str, dict[str, Any]] = {}
    for target in targets:
        found, call = _candidate(target, threads, batch, (channels, height, width), classes)
        facts[target], calls[target] = found, call
    timed = time_all(calls, threads=threads)
    rows = [{"name": name, **facts[name], **timed[name]} for name in calls]
    if not as_json:
        _side_by_side(rows)
        typer.echo(f"Batch {batch}, {threads} thread{'s' * (threads > 1)}; ratio to the first.")
    return {"threads": threads, "batch": batch, "rows": rows}


def _side_by_side(rows: list[dict[str, Any]]) -> None:
    base = rows[0]["median_ms"]
    table(
        ("model", "median", "p95", "ratio", "size", "parameters", "multiply-adds"),
        [
            [
                row["name"],
                milliseconds(row["median_ms"]),
                milliseconds(row["p95_ms"]),
                f"{row['median_ms'] / base:.2f}",
                size(row["bytes"]),
                f"{row['parameters']:,}" if row["parameters"] else "",
                count(row["multiply_adds"]),
            ]
            for row in rows
        ],
    )


def _candidate(
    target: str, threads: int, batch: int, shape: tuple[int, int, int], classes: int
) -> tuple[dict[str, Any], Callable[[], object]]:
    if target.endswith(".onnx"):
        from limbeck.export.runtime import OnnxModel

        path = Path(target)
        taken = [
            given if want is None else want
            for want, given in zip(OnnxModel(path).shape[1:], shape, strict=False)
        ]
        example = torch.rand(batch, *taken, generator=torch.Generator().manual_seed(0))
        facts = {"parameters": None, "multiply_adds": None, "bytes": model_file_bytes(path)}
        return facts, onnx_runner(path, example, threads)
    network, example = _network(target, batch, shape, classes)
    with foreign(target), torch.no_grad():
        network(example[:1])
    facts = {
        "parameters": models.parameters(network),
        "multiply_adds": models.multiply_adds(network, example[:1]),
        "bytes": sum(p.numel() * p.element_size() for p in network.parameters()),
    }
    return facts, torch_runner(network, example)


def _network(target: str, batch: int, shape: tuple[int, int, int], classes: int) -> tuple[nn.Module, Tensor]:
    file = Path(target.removeprefix("run:")) / "student.safetensors"
    if file.is_file():
        head = weights.metadata(file)
        if {"channels", "size"} <= head.keys():
            height, width = map(int, head["size"].split("x"))
            shape = (int(head["channels"]), height, width)
    built = build(target, classes=classes, channels=shape[0], size=shape[1:], options={})
    network = nn.Sequential(InputAdapter(built.input, channels=shape[0]), built.model).eval()
    return network, torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))


def report(runs: list[Path], out: Path | None, as_json: bool) -> dict[str, Any]:
    """Write the page of one run, or the comparison of several."""
    from limbeck.report import write, write_many

    page = write(runs[0], out) if len(runs) == 1 else write_many(runs, out or Path("comparison.html"))
    if not as_json:
        typer.echo(f"Page: {page.resolve()}")
    return {"report": str(page)}
