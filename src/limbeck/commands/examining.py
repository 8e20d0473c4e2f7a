"""What a recipe would do, found out without training: what `limbeck check` prints."""

from typing import Any

import numpy as np
import torch

from limbeck import methods, models
from limbeck.arranging import kind_of, scheme_for
from limbeck.assembly import make_scheme
from limbeck.build import (
    called,
    control_objective,
    further_figures,
    labelled,
    load_data,
    make_objective,
    make_student,
    prepare,
    settings,
)
from limbeck.commands.both import both
from limbeck.commands.hastening import hastened
from limbeck.commands.trying import final_weight, try_stages, try_step
from limbeck.data import Data, Plan
from limbeck.faculty import make_teachers
from limbeck.objective import Objective
from limbeck.pace import Work
from limbeck.pairing import cautions, settle_layers
from limbeck.recipe import ControlSpec, Recipe, TermSpec, of_control
from limbeck.schemes import Scheme
from limbeck.schemes.catalogue import FAMILIES, name_of
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble, Fixed
from limbeck.teaching import teachers_objective
from limbeck.tracking import check as check_trackers
from limbeck.training.runtime import Runtime

__all__ = ["examine"]


def examine(recipe: Recipe, *, stands_in: bool = False) -> dict[str, Any]:
    """What a recipe would do, as plain values; nothing is written.

    Args:
        recipe: without a chain; that of a link is one.
        stands_in: its teacher stands for a network that is still to be trained.

    Raises:
        InputError: it cannot work.
    """
    data = load_data(recipe)
    further_figures(recipe, data)
    check_trackers(recipe.track)
    recipe = settle_layers(recipe.written_out(), data)
    objective = make_objective(recipe.objective, recipe.beside, recipe.stages)
    seed = recipe.seed_list[0]
    train = recipe.train
    # Never compiled here: that alone takes longer than all the rest, and tells nothing more.
    runtime = Runtime(train.device, train.precision, False, train.channels_last, train.threads)
    plan = Plan(seed, len(data.train), recipe.data.batch_size)
    plan.batches(0, world=runtime.world, parts=train.accumulate)
    own = recipe.members()
    seconds = sum(_try_teacher(one, data.taught, runtime) for one in own.values())
    teacher = make_teachers(recipe, data, objective.teacher_taps) if own else None
    control, its_time = _examine_control(recipe, objective, teacher, data, runtime, len(plan))
    student = make_student(recipe, data, seed)
    scheme = scheme_for(recipe, "student", data, seed, student, objective, teacher)
    stages, one = try_stages(scheme, settings(train), recipe.data.batch_size, data, runtime, len(plan))
    speed = hastened(Work(recipe, data, runtime), objective, teacher, one)
    # A control's step lacks the teacher, so that its own time is a little less than the student's.
    seconds += len(recipe.seed_list) * (one + (one if its_time is None else its_time))
    found: dict[str, Any] = {
        "name": recipe.name,
        "seeds": list(recipe.seed_list),
        "data": _describe(data, recipe),
        "student": {"model": recipe.student.model, **_network(student.model, student.adapter, data)},
        "teacher": None,
        "scheme": _scheme(recipe, data, scheme),
        "control": control,
        "stages": stages[:-1],
        "terms": stages[-1]["terms"],
        "steps": {"per_epoch": len(plan), "total": len(plan) * sum(s["epochs"] for s in stages)},
        "device": str(runtime.device),
        "seconds": round(seconds, 1),
        "speed": speed,
        "warnings": [
            *_warnings(recipe, data, stands_in),
            *scheme.cautions(len(plan) * train.epochs),
        ],
    }
    told = {}
    for name, network in _teachers(teacher).items():
        spec = own[name].sole_teacher
        assert spec is not None
        found["warnings"] += cautions(recipe, student.model, network.model, name)
        told[name] = {
            "model": spec.model,
            **_network(network.model, network.adapter, data),
            "trained_first": spec.train is not None,
            **({"label_noise": spec.label_noise} if spec.label_noise else {}),
        }
    found["teacher"] = told.get("")
    if recipe.weighting is not None:
        found["teachers"] = told
        found["weighting"] = recipe.weighting.model_dump(mode="json")
    return found


def _teachers(teacher: Fixed | None) -> dict[str, Tapped]:
    """The network of each of several teachers by name, or that of the only one, which has none."""
    if isinstance(teacher, Ensemble):
        return {name: member.network for name, member in teacher.members.items()}
    return {} if teacher is None else {"": teacher.network}


def _warnings(recipe: Recipe, data: Data, stands_in: bool) -> list[str]:
    """What will work and hardly be meant."""
    found = []
    for teacher in recipe.teachers:
        who = "the teacher" if teacher.name is None else f"the teacher {teacher.name}"
        if teacher.untaught and not stands_in:
            found.append(
                f"the recipe gives {who} no weights (teacher.weights, teacher.pretrained or teacher.train); "
                "a random teacher teaches nothing"
            )
    prepared = {n for s in recipe.stages or () if s.trains == "layers" for n in s.objective}
    found += [
        f"objective.{name}: its own layers are never trained; stages has none that trains them"
        for name, term in recipe.objective.items()
        if name not in prepared and _prepares(recipe, name, term)
    ]
    count = labelled(data)
    if count < len(data.classes):
        found.append(f"{count} labelled training samples for {len(data.classes)} classes")
    if recipe.data.batch_size > len(data.train):
        found.append(f"the {len(data.train)} training samples make one batch, less than data.batch_size")
    return found


def _scheme(recipe: Recipe, data: Data, scheme: Scheme) -> dict[str, Any]:
    """Who teaches whom, by which terms."""
    return {
        "name": recipe.scheme.name,
        "kind": name_of(kind_of(recipe)) if recipe.scheme.name in FAMILIES else None,
        "lessons": [
            {"learner": one.learner, "from": list(one.sources), "terms": list(one.terms)}
            for one in scheme.lessons()
        ],
        "networks": {name: models.parameters(network) for name, network in scheme.kept().items()},
        **({"tasks": both(data)} if data.tasks is not None else {}),
    }


def _prepares(recipe: Recipe, name: str, term: TermSpec) -> bool:
    return methods.get(term.method or name, beside=recipe.beside).stage == "layers" and not term.silent


def _try_teacher(recipe: Recipe, data: Data, runtime: Runtime) -> float:
    """Seconds that training the teacher first would take; 0 where it is not trained."""
    spec = recipe.sole_teacher
    if spec is None or spec.train is None:
        return 0.0
    built = prepare(spec, data, where=called(spec), beside=recipe.beside)
    scheme = make_scheme(built, teachers_objective(recipe), None, data, recipe.seed_list[0])
    plan = Plan(recipe.seed_list[0], len(data.train), recipe.data.batch_size)
    plan.batches(0, world=runtime.world, parts=spec.train.accumulate)
    steps, place = len(plan), f"{called(spec)}."
    _, per_step = try_step(scheme, settings(spec.train), recipe.data.batch_size, data, runtime, steps, place)
    return spec.train.epochs * steps * per_step


def _examine_control(
    recipe: Recipe,
    objective: Objective,
    start: Fixed | None,
    data: Data,
    runtime: Runtime,
    steps: int,
) -> tuple[dict[str, Any] | None, float | None]:
    """What the control learns from, and the seconds of one; None where it is trained as the student is."""
    if not recipe.has_control:
        return None, 0.0
    terms, own = control_objective(recipe, objective), of_control(recipe)
    found = {
        "teacher": None if own is None or own.sole_teacher is None else own.sole_teacher.model,
        "terms": {name: final_weight(term) for name, term in terms.terms.items()},
    }
    train = recipe.control.train if isinstance(recipe.control, ControlSpec) else None
    if train is None and own is None:
        return found, None
    seed, train = recipe.seed_list[0], train or recipe.train
    teacher = start if recipe.adds_task else None
    teacher = teacher if own is None else make_teachers(own, data, terms.teacher_taps)
    scheme = scheme_for(recipe, "control", data, seed, make_student(recipe, data, seed), terms, teacher)
    place = "" if train is recipe.train else "control."
    _, spent = try_stages(scheme, settings(train), recipe.data.batch_size, data, runtime, steps, place)
    return found, spent


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
