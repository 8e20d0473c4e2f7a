"""What a finished run says: the student's files, everything measured, `result.json`, and the page."""

from pathlib import Path
from typing import Any

from torch import nn

from limbeck import ship, weights
from limbeck.build import Prepared, make_student, restored
from limbeck.composing import is_composite
from limbeck.data import Data
from limbeck.evaluation.tasks import TaskFigures, by_task
from limbeck.exiting import Leaving
from limbeck.faculty import each_network, mean_weights
from limbeck.outcome import Outcome
from limbeck.recipe import Recipe, of_control
from limbeck.reckoning import (
    Taught,
    by_seed,
    common,
    gain,
    others,
    seconds,
    size,
    stages_told,
    teacher_told,
)
from limbeck.runfolder import RunFolder
from limbeck.training.runtime import Runtime

__all__ = ["Taught", "conclude", "conclude_comparison"]


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
        result["control"] |= {**size(plain.model), "latency_ms": timed["control"]}
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
    result = common(recipe, data, runtime)
    result["teacher"] = teacher_told(taught, metric)
    if taught.members:
        result["teachers"] = dict(taught.members)
    result["control"] = _compared(control, metric) if control else None
    result["student"] = size(student.model)
    result["variants"] = {
        name: {
            "objective": {n: t.model_dump(mode="json") for n, t in variant.objective.items()},
            **stages_told(variant.stages),
            **_weights(recipe, folder, name),
            **(
                {"failed": given_up[name], "gain": None}
                if name in given_up
                else {
                    **_compared(outcomes[name], metric),
                    "gain": gain(control, outcomes[name], metric),
                    **_own_size(recipe, data, outcomes[name][0].file),
                }
            ),
        }
        for name, variant in recipe.variants.items()
    }
    result["seconds"] = {
        "teacher": round(taught.seconds, 1),
        **{name: seconds(found) for name, found in outcomes.items()},
    }
    folder.write_result(result)
    from limbeck import report

    report.write(folder.path)
    return result


def _weights(recipe: Recipe, folder: RunFolder, role: str) -> dict[str, Any]:
    """What each of several teachers counted in the end, where there are several."""
    found = mean_weights(folder.metrics, role, recipe.seed_list, recipe.teacher_names)
    return {"weight": found} if found else {}


def _own_size(recipe: Recipe, data: Data, file: Path) -> dict[str, int]:
    """The size of a compared student that is not the recipe's plain one."""
    if not is_composite(weights.metadata(file)):
        return {}
    return size(restored(recipe, data, recipe.seed_list[0], file).model)


def _compared(outcomes: list[Outcome], metric: str) -> dict[str, Any]:
    return {**by_seed(outcomes, metric), "seconds": [round(o.seconds, 1) for o in outcomes]}


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
    teacher = teacher_told(taught, metric)
    return {
        **common(recipe, data, runtime),
        "teacher": None if teacher is None else {**teacher, "latency_ms": timed["teacher"]},
        "control": by_seed(control, metric) if control else None,
        "student": {
            **by_seed(students, metric),
            **size(student.model),
            "latency_ms": timed["student"],
        },
        "gain": gain(control, students, metric),
        **by_task(data, taught.figures, {k: [o.evaluation for o in v] for k, v in outcomes.items()}),
        **others(students),
        **stages_told(recipe.stages),
        "exports": exports,
        "seconds": {
            "teacher": round(taught.seconds, 1),
            "control": seconds(control),
            "student": seconds(students),
        },
    }
