"""`limbeck check`: build everything, run one small batch forward and back, and say what would happen."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from limbeck import models
from limbeck.build import (
    control_objective,
    labelled,
    load_data,
    make_objective,
    make_scheme,
    make_student,
    make_teacher,
    settings,
)
from limbeck.commands.common import emit
from limbeck.data import Data, Plan
from limbeck.errors import InputError, WorkError
from limbeck.recipe import Recipe
from limbeck.schemes import Offline
from limbeck.training.runtime import Runtime
from limbeck.training.trainer import Trainer

__all__ = ["check", "examine"]


def check(recipe: Path, overrides: list[str], as_json: bool) -> None:
    """Print what a recipe would do. Whatever goes wrong here was caused by the recipe: exit code 2."""
    try:
        found = examine(Recipe.load(recipe, overrides))
    except WorkError as error:
        raise InputError(str(error)) from error
    if as_json:
        emit(found)
    else:
        _show(found)


def examine(recipe: Recipe) -> dict[str, Any]:
    """What a recipe would do, as plain values; nothing is written.

    Raises:
        InputError: it cannot work.
    """
    data = load_data(recipe)
    objective = make_objective(recipe.objective, recipe.beside)
    if recipe.control is not False:
        control_objective(recipe, objective)
    teacher = None if recipe.teacher is None else make_teacher(recipe, data, objective.teacher_taps)
    seed = recipe.seed_list[0]
    student = make_student(recipe, data, seed)
    scheme = make_scheme(student, objective, teacher, data, seed)
    train = recipe.train
    # Never compiled here: that alone takes longer than all the rest, and tells nothing more.
    runtime = Runtime(train.device, train.precision, False, train.channels_last, train.threads)
    plan = Plan(seed, len(data.train), recipe.data.batch_size)
    plan.batches(0, world=runtime.world, parts=train.accumulate)
    losses, per_step = _try(scheme, recipe, data, runtime, len(plan))
    found: dict[str, Any] = {
        "name": recipe.name,
        "seeds": list(recipe.seed_list),
        "data": _describe(data, recipe),
        "student": {"model": recipe.student.model, **_network(student.model, student.adapter, data)},
        "teacher": None,
        "terms": _terms(scheme, losses),
        "steps": {"per_epoch": len(plan), "total": len(plan) * train.epochs},
        "device": str(runtime.device),
        "seconds": _estimate(recipe, len(plan), per_step),
    }
    if teacher is not None and recipe.teacher is not None:
        network = teacher.network
        found["teacher"] = {
            "model": recipe.teacher.model,
            **_network(network.model, network.adapter, data),
            "trained_first": recipe.teacher.train is not None,
        }
    return found


def _try(
    scheme: Offline, recipe: Recipe, data: Data, runtime: Runtime, steps: int
) -> tuple[dict[str, float], float]:
    """The terms' first values, and the seconds of a full step."""
    trainer = Trainer(scheme, settings(recipe.train), runtime, steps)
    size = min(recipe.data.batch_size, len(data.train))
    small = min(size, 16)
    seconds = []
    losses: dict[str, float] = {}
    for count in (small, size, size):
        index = np.arange(count, dtype=np.int64)
        begin = time.perf_counter()
        step = trainer.try_step([data.train.take(index, 0, trainer.seed)])
        if not losses:
            losses = {name: float(value) for name, value in step.items()}
        seconds.append(time.perf_counter() - begin)
    return losses, min(seconds[1:])


def _network(model: torch.nn.Module, adapter: torch.nn.Module, data: Data) -> dict[str, Any]:
    example = data.train.take(np.arange(1, dtype=np.int64), None, 0).input
    assert isinstance(example, torch.Tensor)
    whole = torch.nn.Sequential(adapter, model)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    return {
        "parameters": models.parameters(model),
        "multiply_adds": models.multiply_adds(whole, example.to(device)),
    }


def _describe(data: Data, recipe: Recipe) -> dict[str, Any]:
    return {
        "source": recipe.data.source,
        "train": len(data.train),
        "labelled": labelled(data),
        "validation": 0 if data.validation is None else len(data.validation),
        "test": len(data.test),
        "classes": len(data.classes),
        "shape": [data.train.channels, *data.train.size],
    }


def _terms(scheme: Offline, losses: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, term in scheme.objective.terms.items():
        weight = term.weight if isinstance(term.weight, int | float) else term.weight.end
        found[name] = {
            "method": type(scheme.objective.method(name)).__module__.rsplit(".", 1)[-1],
            "weight": weight,
            "first_value": losses[name],
            "layers": term.layers,
        }
    return found


def _estimate(recipe: Recipe, steps: int, per_step: float) -> float:
    """Seconds of all trainings together: a rough guess from one step, evaluations left out."""
    total = recipe.train.epochs * steps * per_step * len(recipe.seed_list)
    if recipe.control is not False:
        total *= 2  # at most: the control's step lacks the teacher
    return round(total, 1)


def _show(found: dict[str, Any]) -> None:
    data = found["data"]
    some = "" if data["labelled"] == data["train"] else f" ({data['labelled']} with a label)"
    shape = " × ".join(map(str, data["shape"]))
    lines = [
        f"{found['name']}: {len(found['seeds'])} seed(s), on {found['device']}",
        f"data      {data['source']}: {data['train']} training samples{some}, {data['test']} test samples"
        + (f", {data['validation']} for validation" if data["validation"] else "")
        + f", {data['classes']} classes, {shape}",
    ]
    for role in ("teacher", "student"):
        network = found[role]
        if network is None:
            lines.append(f"{role:9} none: plain training")
            continue
        work = network["multiply_adds"]
        first = ", trained first" if network.get("trained_first") else ""
        lines.append(
            f"{role:9} {network['model']}: {network['parameters']:,} parameters"
            + (f", {work / 1e6:,.1f} M multiply-adds" if work else "")
            + first
        )
    for name, term in found["terms"].items():
        layers = ", ".join(f"{s} ← {t}" for s, t in term["layers"].items())
        lines.append(
            f"term      {name}: weight {term['weight']:g}, first value {term['first_value']:.4g}"
            + (f", layers {layers}" if layers else "")
        )
    steps = found["steps"]
    lines.append(f"training  {steps['per_epoch']} steps an epoch, {steps['total']} in all")
    lines.append(f"time      about {_duration(found['seconds'])} at most, without compiling and evaluating")
    typer.echo("\n".join(lines))


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
