"""The scheme of a recipe: teacher and student, peers that teach each other, or one that teaches itself.

Or a student that adds a task to its teacher's.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.assembly import make_scheme, setup
from limbeck.build import Prepared, make_objective, prepare, probe_batch
from limbeck.data import Data
from limbeck.data.keyed import seed_for
from limbeck.errors import InputError
from limbeck.inheriting import make_lifelong
from limbeck.objective import Objective
from limbeck.recipe import Network, Recipe
from limbeck.schemes.base import Kind, Scheme, Setting
from limbeck.schemes.catalogue import get
from limbeck.taps import Tapped
from limbeck.teachers import Fixed, Frozen

__all__ = ["DEFAULT_KIND", "arrange", "assembled", "scheme_for"]

DEFAULT_KIND = {"online": "mutual"}
"""What a scheme is where its kind is not said."""


def scheme_for(
    recipe: Recipe,
    role: str,
    data: Data,
    seed: int,
    student: Prepared,
    objective: Objective,
    teacher: Fixed | None,
) -> Scheme:
    """What the training of a role trains; a control is taught by nobody, whatever the scheme.

    Args:
        recipe: the run's.
        role: student or control.
        data: what is learnt from.
        seed: of the training.
        student: with its first weights.
        objective: what it learns from.
        teacher: where the objective needs one, or where student and control begin as the teacher.

    Raises:
        InputError: networks, terms and scheme do not fit together.
    """
    if recipe.adds_task:
        assert isinstance(teacher, Frozen)
        return make_lifelong(student, objective, teacher, data, seed)
    if recipe.scheme.name == "offline" or role == "control":
        return make_scheme(student, objective, teacher, data, seed)
    return arrange(recipe, data, seed, student, objective)


def arrange(recipe: Recipe, data: Data, seed: int, student: Prepared, objective: Objective) -> Kind:
    """The recipe's scheme, with all that it owns.

    Args:
        recipe: its scheme is online or own.
        data: what is learnt from.
        seed: of the training.
        student: with its first weights, which are those of its control.
        objective: what it learns from.

    Raises:
        InputError: networks, terms and scheme do not fit together.
    """
    kind = kind_of(recipe)
    spec = recipe.scheme
    setting = Setting(
        samples=data.train,
        classes=len(data.classes),
        seed=seed,
        epochs=recipe.train.epochs,
        probe=probe_batch(data),
        objective=lambda: make_objective(recipe.objective, recipe.beside),
        peers=_peers(recipe, data, seed) if spec.name == "online" else {},
        generator=torch.Generator().manual_seed(seed),
    )
    plain = Tapped(student.model, (), student.adapter, who="student")
    targets = torch.as_tensor(data.train.targets)
    return assembled(kind, spec.options, plain, objective, setting, len(data.train), targets)


def assembled(
    kind: type[Kind],
    options: Mapping[str, Any],
    plain: Tapped,
    objective: Objective,
    setting: Setting,
    samples: int,
    targets: Tensor | None = None,
) -> Kind:
    """A kind of scheme around a student, with the layers of all its methods.

    Args:
        kind: its class.
        options: its own.
        plain: the student behind its adapter, read nowhere.
        objective: what the student learns from.
        setting: of the training.
        samples: number of training samples.
        targets: class of each of them; None: not known.

    Raises:
        InputError: networks, terms and scheme do not fit together.
    """
    try:
        model = kind.compose(plain, setting, **options)
        adapter = plain.adapter if plain.adapts else None
        tapped = Tapped(model, objective.student_taps, adapter, who="student")
        scheme = kind(tapped, objective, setting, **options)
        scheme.composed = model is not plain.model
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"scheme: {error}") from error
    for learner, own, source in scheme.learners():
        setup(learner, own, source, setting.probe, samples, setting.classes, setting.seed, targets)
    return scheme


def kind_of(recipe: Recipe) -> type[Kind]:
    """The class of the recipe's scheme, which is online or own."""
    spec = recipe.scheme
    return get(spec.name, spec.kind or DEFAULT_KIND[spec.name])


def _peers(recipe: Recipe, data: Data, seed: int) -> Mapping[str, Tapped]:
    """The networks beside the student, each with first weights of its own."""
    spec = recipe.scheme.peers or kind_of(recipe).together(recipe.scheme.options)
    networks: tuple[Network, ...] = (recipe.student,) * (spec - 1) if isinstance(spec, int) else spec
    found = {}
    for number, network in enumerate(networks, 2):
        name = f"peer-{number}"
        torch.manual_seed(seed_for(seed, name))
        built = prepare(network, data, where=f"scheme.peers.{number - 2}", beside=recipe.beside)
        found[name] = Tapped(built.model, (), built.adapter, who=name)
    return found
