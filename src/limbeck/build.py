"""From a recipe to the objects that it names: data, networks, objective, scheme."""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck import data as data_sources
from limbeck import methods, models, weights
from limbeck.classes import teacher_classes
from limbeck.data import Data
from limbeck.errors import InputError, UnknownNameError, unknown
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.methods.base import Probe
from limbeck.objective import Objective, Term
from limbeck.recipe import ControlSpec, Network, Recipe, TermSpec, TrainSpec
from limbeck.schemes import Offline
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.settings import Training

__all__ = [
    "Prepared",
    "control_objective",
    "load_data",
    "make_objective",
    "make_scheme",
    "make_student",
    "make_teacher",
    "prepare",
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
            keys -= {"classes", "train", "objective"}  # the teacher's alone
        raise unknown("key or option", error.given, [*error.allowed, *keys], where) from None
    if network.weights is not None:
        weights.load(
            built.model, weights.find(network.weights, beside=beside, where=f"{where}.weights"), where=where
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


def make_teacher(recipe: Recipe, data: Data, taps: list[str]) -> Frozen:
    """The recipe's teacher, with its weights, ready to answer."""
    assert recipe.teacher is not None
    chosen = recipe.teacher.classes
    torch.manual_seed(recipe.seed_list[0])
    built = prepare(
        recipe.teacher,
        data,
        where="teacher",
        beside=recipe.beside,
        # Classes are picked from a teacher that has more of them than the data: ImageNet's, if not said.
        classes=1000 if chosen is not None and recipe.teacher.model.startswith(PUBLISHED) else None,
    )
    return frozen(recipe, data, built, taps)


def frozen(recipe: Recipe, data: Data, built: Prepared, taps: list[str]) -> Frozen:
    """A built teacher network as the teacher of this recipe."""
    assert recipe.teacher is not None
    network = Tapped(built.model, taps, built.adapter, who="teacher")
    network.eval()
    logits = _first_answer("teacher", network, probe_batch(data)).logits
    return Frozen(network, teacher_classes(recipe.teacher.classes, logits.shape, data))


def make_objective(terms: Mapping[str, TermSpec], beside: Path | None) -> Objective:
    """The objective that a recipe's terms describe; `beside` is the recipe's folder.

    A term that is called by an alias gets the method's own name, so that results of different recipes agree.
    """
    return Objective(
        {_own_name(n, terms): _term(n, spec, beside) for n, spec in terms.items() if not spec.silent}
    )


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

    That there are such terms, and that none needs a teacher, was seen to when the recipe was checked.
    """
    if isinstance(recipe.control, ControlSpec) and recipe.control.objective is not None:
        return make_objective(recipe.control.objective, recipe.beside)
    return Objective(objective.label_terms())


def probe_batch(data: Data, size: int = PROBE_SAMPLES) -> Batch:
    """A few training samples without augmentation."""
    return data.train.take(np.arange(min(size, len(data.train)), dtype=np.int64), None, 0)


def make_scheme(
    student: Prepared, objective: Objective, teacher: Frozen | None, data: Data, seed: int
) -> Offline:
    """Student, objective and teacher joined; the objective's own layers are built from a probe batch."""
    tapped = Tapped(student.model, objective.student_taps, student.adapter, who="student")
    train = data.train
    setup(
        tapped,
        objective,
        teacher,
        probe_batch(data),
        len(train),
        len(data.classes),
        seed,
        torch.as_tensor(train.targets),
    )
    return Offline(tapped, objective, teacher)


def setup(
    student: Tapped,
    objective: Objective,
    teacher: Frozen | None,
    batch: Batch,
    samples: int,
    classes: int,
    seed: int,
    targets: Tensor | None = None,
) -> None:
    """Ask both networks about a probe batch and let the methods build their layers from the answers.

    Raises:
        InputError: the student's logits do not fit the data, or a method refuses what it sees.
    """
    device = next((p.device for p in student.parameters()), torch.device("cpu"))
    training = student.training
    student.eval()
    answer = _first_answer("student", student, batch.to(device))
    heard = None
    if teacher is not None:
        where = next((p.device for p in teacher.network.parameters()), torch.device("cpu"))
        heard = _first_answer("teacher", teacher, batch.to(where))
    student.train(training)
    if answer.logits.dim() != 2 or (classes and answer.logits.shape[1] != classes):
        raise InputError(
            f"student: must answer logits [samples, {classes or 'classes'}]; it answers "
            f"{list(answer.logits.shape)}."
        )
    probe = Probe(
        student=answer,
        teacher=heard,
        batch=batch,
        student_modules=student.tapped_modules,
        teacher_modules=() if teacher is None else teacher.network.tapped_modules,
        student_head=models.head(student.model),
        teacher_head=None if teacher is None else models.head(teacher.network.model),
        samples=samples,
        classes=classes or int(answer.logits.shape[1]),
        targets=targets,
        generator=torch.Generator().manual_seed(seed),
    )
    try:
        objective.setup(probe)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"objective: {error}") from error


def _first_answer(who: str, network: Tapped | Frozen, batch: Batch) -> Knowledge:
    """The first time that a network sees the data: what fails here does so because they do not fit.

    Raises:
        InputError: the network cannot take such input.
    """
    try:
        with torch.no_grad(), _uncompiled(network):
            answer: Knowledge = network(batch) if isinstance(network, Frozen) else network(batch.input)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        seen = list(batch.input.shape[1:]) if isinstance(batch.input, torch.Tensor) else list(batch.input)
        raise InputError(
            f"{who}: cannot take input of shape {seen}: {type(error).__name__}: {error}. "
            f"`{who}.input: {{size: …, channels: …}}` "
            "adapts images."
        ) from error
    return answer


def _uncompiled(network: Tapped | Frozen) -> AbstractContextManager[Any]:
    """A teacher that an earlier seed compiled answers a probe as it is.

    Compiled for the probe's size too, it would run other code for later seeds than a resumed run does.
    """
    compiled = isinstance(network, Frozen) and network.network._compiled_call_impl is not None
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()


def settings(spec: TrainSpec) -> Training:
    """The part of a recipe's `train:` that the trainer needs."""
    return Training(
        epochs=spec.epochs,
        optimizer=spec.optimizer.model_dump(),
        schedule=spec.schedule.model_dump(),
        accumulate=spec.accumulate,
        clip=spec.clip,
    )


def labelled(data: Data) -> int:
    """Number of training samples with a label."""
    return int((data.train.targets != UNLABELLED).sum())
