"""What a finished run says: the student's files, everything measured, `result.json`, and the page."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck import __version__, models, ship, weights
from limbeck.build import Prepared, make_student, restored
from limbeck.composing import is_composite
from limbeck.data import Data
from limbeck.evaluation.statistics import paired_interval
from limbeck.evaluation.tasks import TASK_FIGURES, TaskFigures, by_task
from limbeck.exiting import Leaving
from limbeck.faculty import each_network, mean_weights
from limbeck.outcome import Outcome
from limbeck.recipe import Recipe, StageSpec, of_control
from limbeck.runfolder import RunFolder
from limbeck.teachers import Fixed
from limbeck.training.runtime import Runtime

__all__ = ["Taught", "conclude", "conclude_comparison"]


@dataclass(frozen=True, slots=True)
class Taught:
    """The teacher of a run, the seconds that its training took, and its figures on the test set.

    Of several teachers these are of all together, and `members` is what `result.json` says of each.
    """

    teacher: Fixed | None
    seconds: float
    figures: dict[str, Any] | None
    members: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def conclude(
    recipe: Recipe,
    data: Data,
    runtime: Runtime,
    folder: RunFolder,
    taught: Taught,
    outcomes: dict[str, list[Outcome]],
) -> dict[str, Any]:
    """Export and measure the first seed's student, write `result.json` and the page.

    Args:
        outcomes: of `control` (empty where there is none) and `student`, by seed.

    Returns:
        What `result.json` holds.
    """
    first = outcomes["student"][0]
    student = restored(recipe, data, recipe.seed_list[0], first.file)
    weights.save(student.model, folder.path / "student.safetensors", weights.metadata(first.file))
    network = nn.Sequential(student.adapter, student.model).eval()
    formats = recipe.export.formats
    exports = ship.export(
        network,
        student.spec,
        formats,
        folder.path,
        data,
        recipe.name,
        batch=recipe.data.eval_batch_size,
        figures=None if data.tasks is None else TaskFigures({}, data.tasks),
    )
    networks: dict[str, nn.Module] = {"student": network}
    if taught.teacher is not None:
        networks["teacher"] = taught.teacher.plain()
        networks |= each_network(taught.teacher)
    # Its control is another network than the student, where that is a composite.
    control = outcomes.get("control") if is_composite(weights.metadata(first.file)) else None
    plain = restored(recipe, data, recipe.seed_list[0], control[0].file) if control else None
    if plain is not None:
        networks["control"] = nn.Sequential(plain.adapter, plain.model).eval()
    leaving = Leaving(student, formats, folder.path, data, recipe.name, recipe.data.eval_batch_size)
    files: dict[str, Path] = {form: folder.path / ship.named(form) for form in formats}
    timed = ship.latencies(networks, {**files, **leaving.files}, next(ship.pixels(data.test, 1)))
    for form, entry in exports.items():
        entry["latency_ms"] = timed[form]
    result = _result(recipe, data, runtime, taught, outcomes, student, exports, timed)
    if plain is not None:
        result["control"] |= {**_size(plain.model), "latency_ms": timed["control"]}
    own = of_control(recipe)
    if own is not None and own.sole_teacher is not None:
        result["control"]["teacher"] = own.sole_teacher.model
    leaving.tell(result, network, timed)
    if taught.members:
        means = mean_weights(folder.metrics, "student", recipe.seed_list, list(taught.members))
        result["teachers"] = {
            name: {**one, "latency_ms": timed[f"teacher.{name}"], "weight": means[name]}
            for name, one in taught.members.items()
        }
    folder.write_result(result)
    from limbeck import report

    report.write(folder.path)
    return result


def conclude_comparison(
    recipe: Recipe,
    data: Data,
    runtime: Runtime,
    folder: RunFolder,
    taught: Taught,
    outcomes: dict[str, list[Outcome]],
    given_up: dict[str, list[str]],
) -> dict[str, Any]:
    """Write `result.json` and the page of several objectives side by side.

    Args:
        outcomes: of `control` (empty where there is none) and of each of the recipe's variants, by seed.
        given_up: by variant, why students of it were given up; such a variant has no figures.

    Returns:
        What `result.json` holds.
    """
    assert recipe.variants is not None
    metric = recipe.metric
    student = make_student(recipe, data, recipe.seed_list[0])
    control = outcomes.get("control", [])
    result = _common(recipe, data, runtime)
    result["teacher"] = _teachers(taught, metric)
    if taught.members:
        result["teachers"] = dict(taught.members)
    result["control"] = _compared(control, metric) if control else None
    result["student"] = _size(student.model)
    result["variants"] = {
        name: {
            "objective": {n: t.model_dump(mode="json") for n, t in variant.objective.items()},
            **_stages(variant.stages),
            **_weights(recipe, folder, name),
            **(
                {"failed": given_up[name], "gain": None}
                if name in given_up
                else {
                    **_compared(outcomes[name], metric),
                    "gain": _gain(control, outcomes[name], metric),
                    **_own_size(recipe, data, outcomes[name][0].file),
                }
            ),
        }
        for name, variant in recipe.variants.items()
    }
    result["seconds"] = {
        "teacher": round(taught.seconds, 1),
        **{name: _seconds(found) for name, found in outcomes.items()},
    }
    folder.write_result(result)
    from limbeck import report

    report.write(folder.path)
    return result


def _stages(stages: Sequence[StageSpec] | None) -> dict[str, Any]:
    """What came before the objective, where anything did."""
    return {"stages": [stage.model_dump(mode="json") for stage in stages]} if stages else {}


def _weights(recipe: Recipe, folder: RunFolder, role: str) -> dict[str, Any]:
    """What each of several teachers counted in the end, where there are several."""
    found = mean_weights(folder.metrics, role, recipe.seed_list, recipe.teacher_names)
    return {"weight": found} if found else {}


def _own_size(recipe: Recipe, data: Data, file: Path) -> dict[str, int]:
    """The size of a compared student that is not the recipe's plain one."""
    if not is_composite(weights.metadata(file)):
        return {}
    return _size(restored(recipe, data, recipe.seed_list[0], file).model)


def _compared(outcomes: list[Outcome], metric: str) -> dict[str, Any]:
    return {**_figures(outcomes, metric), "seconds": [round(o.seconds, 1) for o in outcomes]}


def _seconds(outcomes: list[Outcome]) -> float:
    return round(sum(o.seconds for o in outcomes), 1)


def _gain(control: list[Outcome], student: list[Outcome], metric: str) -> dict[str, Any] | None:
    """The paired gain over the control, where both have figures."""
    before, after = ([_value(o, metric) for o in side] for side in (control, student))
    pairs = [(a, b) for a, b in zip(before, after, strict=False) if a is not None and b is not None]
    if not pairs or len(pairs) < len(student):
        return None
    return paired_interval([a for a, _ in pairs], [b for _, b in pairs]).to_json()


def _value(outcome: Outcome, metric: str) -> float | None:
    """A figure of an evaluation, one of its further ones among them."""
    found: float | None = {**outcome.evaluation["metrics"], **outcome.evaluation}[metric]
    return found


def _common(recipe: Recipe, data: Data, runtime: Runtime) -> dict[str, Any]:
    return {
        "name": recipe.name,
        "limbeck": __version__,
        "seeds": list(recipe.seed_list),
        "metric": recipe.metric,
        "classes": list(data.classes),
        "environment": _environment(runtime),
    }


def _teachers(taught: Taught, metric: str) -> dict[str, Any] | None:
    if taught.teacher is None or taught.figures is None:
        return None
    return {
        "accuracy": taught.figures["accuracy"],
        # A teacher of one task among two knows no other figure of it.
        metric: taught.figures.get(metric, taught.figures["accuracy"]),
        **_size(taught.teacher.plain()),
        "frozen": True,
        **{k: taught.figures[k] for k in ("loss", "ece", "per_class")},
        **({"metrics": taught.figures["metrics"]} if taught.figures["metrics"] else {}),
    }


def _result(
    recipe: Recipe,
    data: Data,
    runtime: Runtime,
    taught: Taught,
    outcomes: dict[str, list[Outcome]],
    student: Prepared,
    exports: dict[str, Any],
    timed: dict[str, float],
) -> dict[str, Any]:
    control, students = outcomes.get("control", []), outcomes["student"]
    metric = recipe.metric
    teacher = _teachers(taught, metric)
    return {
        **_common(recipe, data, runtime),
        "teacher": None if teacher is None else {**teacher, "latency_ms": timed["teacher"]},
        "control": _figures(control, metric) if control else None,
        "student": {
            **_figures(students, metric),
            **_size(student.model),
            "latency_ms": timed["student"],
        },
        "gain": _gain(control, students, metric),
        **by_task(data, taught.figures, {k: [o.evaluation for o in v] for k, v in outcomes.items()}),
        **_others(students),
        **_stages(recipe.stages),
        "exports": exports,
        "seconds": {
            "teacher": round(taught.seconds, 1),
            "control": _seconds(control),
            "student": _seconds(students),
        },
    }


def _size(model: nn.Module) -> dict[str, int]:
    """Parameters, and the bytes that they take in memory and on disk."""
    return {
        "parameters": models.parameters(model),
        "bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }


def _figures(outcomes: list[Outcome], metric: str) -> dict[str, Any]:
    """Lists by seed."""
    rows: dict[str, Callable[[Outcome], Any]] = {
        metric: lambda o: _value(o, metric),
        "accuracy": lambda o: o.evaluation["accuracy"],
        "best": lambda o: o.best if metric == "accuracy" else None,
        "agreement": lambda o: o.evaluation["agreement"],
        "ece": lambda o: o.evaluation["ece"],
        "loss": lambda o: o.evaluation["loss"],
        "kl": lambda o: o.evaluation["kl"],
        "per_class": lambda o: o.evaluation["per_class"],
    }
    if outcomes[0].evaluation["validation"] is not None:
        rows["validation"] = lambda o: o.evaluation["validation"]
        rows["checkpoints"] = lambda o: o.evaluation["checkpoints"]
        rows["taken"] = lambda o: o.evaluation["taken"]
    found: dict[str, Any] = {name: [read(o) for o in outcomes] for name, read in rows.items()}
    further = [name for name in outcomes[0].evaluation["metrics"] if name not in TASK_FIGURES]
    if further:
        found["metrics"] = {name: [o.evaluation["metrics"][name] for o in outcomes] for name in further}
    return found


def _others(outcomes: list[Outcome]) -> dict[str, Any]:
    """What learned beside the student, under its scheme's word for it: figures by network, each by seed."""
    first = outcomes[0].evaluation.get("others", {})
    return {
        word: {
            name: {
                figure: value
                if figure == "parameters"
                else [o.evaluation["others"][word][name][figure] for o in outcomes]
                for figure, value in found.items()
            }
            for name, found in networks.items()
        }
        for word, networks in first.items()
    }


def _environment(runtime: Runtime) -> dict[str, Any]:
    import numpy
    import timm
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "device": str(runtime.device),
        "threads": torch.get_num_threads(),
        "processes": runtime.world,
        "precision": runtime.precision,
        "compile": runtime.compile,
        "machine": platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
