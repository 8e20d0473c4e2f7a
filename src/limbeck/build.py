"""From a recipe to the objects that it names: data, networks, objective."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from limbeck import data as data_sources
from limbeck import locating, methods, models, weights
from limbeck.calls import first_answer
from limbeck.classes import teacher_classes
from limbeck.composing import recompose
from limbeck.data import Data, Mix
from limbeck.errors import InputError, UnknownNameError, unknown
from limbeck.evaluation.figures import Figures
from limbeck.evaluation.tasks import TaskFigures
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.knowledge import UNLABELLED, Batch
from limbeck.objective import Objective, Term
from limbeck.recipe import ControlSpec, Network, Recipe, StageSpec, TermSpec, TrainSpec
from limbeck.recipe.network import TEACHERS_ALONE
from limbeck.staging import Stage, joined
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.ema import Averaging
from limbeck.training.settings import Checkpoint, Training

__all__ = [
    "PROBE_SAMPLES",
    "Prepared",
    "called",
    "checkpoint",
    "control_objective",
    "further_figures",
    "load_data",
    "make_objective",
    "make_student",
    "make_teacher",
    "mix",
    "prepare",
    "probe_batch",
    "restored",
    "settings",
]

PROBE_SAMPLES = 8

PUBLISHED = ("timm:", "torchvision:")
"""Prefixes of networks whose published weights answer ImageNet's 1000 classes."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A network as a recipe names it, with the adapter that stands before it."""

    model: nn.Module
    adapter: InputAdapter
    spec: InputSpec
    name: str


def load_data(recipe: Recipe) -> Data:
    """The recipe's data. What is split off or kept is drawn by seed 0, the same for every seed of the run."""
    spec = recipe.data
    return data_sources.load(
        spec.source,
        root=None if spec.root is None else Path(spec.root),
        validation=spec.validation,
        views=spec.views,
        labels=spec.labels,
        samples=spec.samples,
        options=spec.options,
        size=spec.size,
        beside=recipe.beside,
        old=recipe.scheme.old,
    )


def prepare(
    network: Network, data: Data, *, where: str, beside: Path | None, classes: int | None = None
) -> Prepared:
    """Build a network from its entry in a recipe, weights included.

    Args:
        network: the entry.
        data: what it will see.
        where: "teacher" or "student", for messages.
        beside: the recipe's folder.
        classes: number of its logits; None takes the data's.
    """
    own = network.input
    try:
        built = models.build(
            network.model,
            classes=len(data.classes) if classes is None else classes,
            channels=data.train.channels if own is None or own.channels is None else own.channels,
            size=data.train.size,
            options=network.options,
            where=where,
            beside=beside,
            pretrained=network.pretrained,
        )
    except UnknownNameError as error:
        if error.what != "option":
            raise
        # A misspelt key of the entry itself arrives here as an option of the model.
        keys = set(Network.model_fields) - {"options"}
        if where == "student":
            keys -= set(TEACHERS_ALONE)
        else:
            keys -= {"head"}
        raise unknown("key or option", error.given, [*error.allowed, *keys], where) from None
    if network.weights is not None:
        weights.load(
            built.model, locating.find(network.weights, beside=beside, where=f"{where}.weights"), where=where
        )
    given = None if own is None else InputSpec(own.mean, own.std, own.size, own.channels)
    spec = built.input.override(given)
    return Prepared(
        built.model,
        InputAdapter(spec, channels=data.train.channels, where=f"{where}.input"),
        spec,
        built.name,
    )


def make_student(recipe: Recipe, data: Data, seed: int) -> Prepared:
    """The student with the initial weights of this seed: the same for the student and its control."""
    torch.manual_seed(seed)
    return prepare(recipe.student, data, where="student", beside=recipe.beside)


def restored(recipe: Recipe, data: Data, seed: int, file: Path) -> Prepared:
    """A student of this recipe with the weights that a training left, put together as it was there."""
    built = make_student(recipe, data, seed)
    model = recompose(built.model, weights.metadata(file))
    weights.load(model, file, where="student")
    return Prepared(model, built.adapter, built.spec, built.name)


def make_teacher(recipe: Recipe, data: Data, taps: list[str]) -> Frozen:
    """The recipe's teacher, with its weights, ready to answer; of several, see `Recipe.members`."""
    data, teacher = data.taught, recipe.sole_teacher
    assert teacher is not None
    torch.manual_seed(recipe.seed_list[0])
    built = prepare(
        teacher,
        data,
        where=called(teacher),
        beside=recipe.beside,
        # Classes are picked from a teacher that has more of them than the data: ImageNet's, if not said.
        classes=1000 if teacher.classes is not None and teacher.model.startswith(PUBLISHED) else None,
    )
    return frozen(recipe, data, built, taps)


def frozen(recipe: Recipe, data: Data, built: Prepared, taps: list[str]) -> Frozen:
    """A built teacher network as the teacher of this recipe."""
    data, teacher = data.taught, recipe.sole_teacher
    assert teacher is not None
    network = Tapped(built.model, taps, built.adapter, who=called(teacher))
    network.eval()
    logits = first_answer(network.who, network, probe_batch(data), lambda b: network(b.input)).logits
    return Frozen(network, teacher_classes(teacher.classes, logits.shape, data))


def called(teacher: Network) -> str:
    """What people, folders and curves call a teacher: `teacher`, or one of several `teacher.NAME`."""
    return "teacher" if teacher.name is None else f"teacher.{teacher.name}"


def make_objective(
    terms: Mapping[str, TermSpec], beside: Path | None, stages: Sequence[StageSpec] | None = None
) -> Objective:
    """The objective that a recipe's terms describe.

    A term that is called by an alias gets the method's own name, so that results of different recipes agree.

    Args:
        terms: those of the objective itself.
        beside: the recipe's folder.
        stages: what comes before them.
    """
    return joined(
        terms_of(terms, beside),
        [
            Stage(
                spec.name,
                spec.epochs,
                terms_of(spec.objective, beside),
                spec.trains,
                None if spec.optimizer is None else spec.optimizer.model_dump(),
                None if spec.schedule is None else spec.schedule.model_dump(),
            )
            for spec in stages or ()
        ],
    )


def terms_of(terms: Mapping[str, TermSpec], beside: Path | None = None) -> dict[str, Term | float]:
    """A recipe's terms as an objective takes them; those that never count are left out."""
    return {_own_name(n, terms): _term(n, spec, beside) for n, spec in terms.items() if not spec.silent}


def _own_name(name: str, terms: Mapping[str, TermSpec]) -> str:
    if terms[name].method is not None or ":" in name:
        return name
    own = methods.file_name(methods.get(name))
    taken = own in terms or any(
        n != name and t.method is None and ":" not in n and methods.file_name(methods.get(n)) == own
        for n, t in terms.items()
    )
    return name if taken else own


def _term(name: str, spec: TermSpec, beside: Path | None) -> Term:
    weight = spec.weight if isinstance(spec.weight, int | float) else spec.weight.built()
    return Term(spec.method or name, weight=weight, layers=spec.layers, beside=beside, **spec.options)


def control_objective(recipe: Recipe, objective: Objective) -> Objective:
    """What the control learns from: its own terms where given, else the label terms at total weight 1.

    Terms of its own keep their weights; a control with a teacher has the recipe's objective as it is. That
    there are label terms, and that none of them needs a teacher, was seen to when the recipe was checked.
    """
    if isinstance(recipe.control, ControlSpec) and recipe.control.objective is not None:
        return make_objective(recipe.control.objective, recipe.beside, recipe.control.stages)
    return Objective(objective.label_terms())


def probe_batch(data: Data, size: int = PROBE_SAMPLES) -> Batch:
    """A few training samples without augmentation."""
    return data.train.take(np.arange(min(size, len(data.train)), dtype=np.int64), None, 0)


def mix(recipe: Recipe) -> Mix | None:
    """How the recipe mixes the samples of a batch."""
    return None if recipe.data.mix is None else Mix(**recipe.data.mix.model_dump())


def settings(spec: TrainSpec) -> Training:
    """The part of a recipe's `train:` that the trainer needs."""
    return Training(
        epochs=spec.epochs,
        optimizer=spec.optimizer.model_dump(),
        schedule=spec.schedule.model_dump(),
        accumulate=spec.accumulate,
        clip=spec.clip,
        decay_bias_and_norm=spec.decay_bias_and_norm,
        ema=None if spec.ema is None else Averaging(**spec.ema.model_dump()),
    )


def checkpoint(spec: TrainSpec, data: Data, figures: Figures) -> Checkpoint:
    """Which weights are taken in the end, as a recipe's `train:` says.

    Raises:
        InputError: there is nothing to choose by, or no such figure.
    """
    wanted = spec.checkpoint
    if wanted.watch not in figures.rising:
        raise unknown("figure", wanted.watch, figures.rising, where="train.checkpoint.watch")
    if wanted.take != "last" and data.validation is None:
        raise InputError(
            f"train.checkpoint.take: {wanted.take} is chosen on a validation part, not on the test set, and "
            "there is none. Give data.validation: 0.1, say, or take: last."
        )
    return Checkpoint(**wanted.model_dump())


def further_figures(recipe: Recipe, data: Data) -> Figures:
    """The further figures of every evaluation; that every training chooses by what there is, is seen to too.

    Raises:
        InputError: a figure that nobody knows, or that cannot be had for these classes; or `checkpoint` of
            one of the trainings.
    """
    wanted = {name: spec.wanted for name, spec in recipe.metrics.items()}
    figures = (
        Figures(wanted, len(data.classes), recipe.beside)
        if data.tasks is None
        else TaskFigures(wanted, data.tasks, recipe.beside)
    )
    own = [recipe.control.train] if isinstance(recipe.control, ControlSpec) else []
    own += [teacher.train for teacher in recipe.teachers]
    for spec in (recipe.train, *own):
        if spec is not None:
            checkpoint(spec, data, figures)
    return figures


def labelled(data: Data) -> int:
    """Number of training samples with a label."""
    return int((data.train.targets != UNLABELLED).sum())
