"""What a recipe must satisfy beyond the types of its parts."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from limbeck.errors import InputError, unknown
from limbeck.reading import shown
from limbeck.recipe.base import METHOD_NAME

if TYPE_CHECKING:
    from limbeck.methods.base import Method
    from limbeck.recipe.network import Network
    from limbeck.recipe.objective import TermSpec
    from limbeck.recipe.recipe import Recipe

__all__ = ["check_recipe", "check_supported"]

SCHEMES = ("offline",)
_LATER_SCHEMES = ("online", "own", "data_free", "on_policy")
_LATER_KEYS = ("stages", "chain", "weighting")
_LATER_TEACHER_KEYS = ("cache", "backend", "weighting")
# Models that come without weights unless the recipe says where these are.
_BLANK_MODELS = ("cifar", "timm", "torchvision")
# One process group, one device: what `train` says of them holds for teacher and control as well.
_COMMON_KEYS = ("precision", "compile", "channels_last", "threads", "device")
_RESERVED_TERMS = ("loss",)
ROLES = ("teacher", "control", "student")
"""What the networks of a run are called, in its folder and in its curves."""


def check_supported(data: Mapping[str, Any], where: str) -> None:
    """Refuse what the design names but this version does not do yet, before it counts as a wrong key.

    Raises:
        InputError: the key, and that it is not yet supported.
    """
    for place in _later(data):
        raise InputError(f"{where}: {place}: not yet supported in this version of Limbeck.")


def _later(data: Mapping[str, Any]) -> Iterator[str]:
    teacher, scheme = data.get("teacher"), data.get("scheme")
    yield from (key for key in _LATER_KEYS if key in data)
    if isinstance(teacher, list):
        yield "teacher as a list (several teachers)"
    if isinstance(teacher, dict):
        yield from (f"teacher.{key}" for key in _LATER_TEACHER_KEYS if key in teacher)
    name = scheme.get("name") if isinstance(scheme, dict) else scheme
    if isinstance(name, str) and name in _LATER_SCHEMES:
        yield f'scheme "{name}"'


def check_recipe(recipe: "Recipe", where: str) -> None:
    """Check how the parts fit together, and every term against its method.

    Raises:
        InputError: the place and what to do about it.
    """
    _check_scheme(recipe, where)
    _check_student(recipe.student, where)
    if recipe.teacher is not None:
        _check_teacher(recipe.teacher, where)
    if recipe.data.labels and recipe.data.samples and recipe.data.labels > recipe.data.samples:
        raise InputError(
            f"{where}: data.labels: must be at most data.samples ({recipe.data.samples}), "
            f"given {recipe.data.labels}."
        )
    _check_common(recipe, where)
    _check_objectives(recipe, where)


def _check_scheme(recipe: "Recipe", where: str) -> None:
    if recipe.scheme.name not in SCHEMES:
        raise unknown("scheme", recipe.scheme.name, (*SCHEMES, *_LATER_SCHEMES), f"{where}: scheme.name")
    for key in recipe.scheme.options:
        raise unknown("key", key, ["name"], f"{where}: scheme")


def _check_student(student: "Network", where: str) -> None:
    for key in ("classes", "train", "objective"):
        if getattr(student, key) is not None:
            hint = " How the student is trained stands at the top of the recipe." if key != "classes" else ""
            raise InputError(f"{where}: student.{key}: only a teacher has this key.{hint}")


def _check_teacher(teacher: "Network", where: str) -> None:
    blank = teacher.model.partition(":")[0] in _BLANK_MODELS
    if blank and teacher.weights is None and not teacher.pretrained and teacher.train is None:
        raise InputError(
            f"{where}: teacher: knows nothing yet. Give weights: FILE, pretrained: true, "
            "or train: {…} to train it first."
        )


def _check_common(recipe: "Recipe", where: str) -> None:
    """Refuse a machine of its own for teacher or control, which would be ignored."""
    owners = {
        "teacher": None if recipe.teacher is None else recipe.teacher.train,
        "control": None if isinstance(recipe.control, bool) else recipe.control.train,
    }
    for owner, own in owners.items():
        for key in _COMMON_KEYS if own is not None else ():
            given, common = getattr(own, key), getattr(recipe.train, key)
            if given != common:
                raise InputError(
                    f"{where}: {owner}.train.{key}: is one for all trainings of a run "
                    f"(train.{key}: {shown(common)}), given {shown(given)}."
                )


def _check_objectives(recipe: "Recipe", where: str) -> None:
    labelled = _check_terms(recipe, recipe.objective, "objective", where, labels_only=recipe.teacher is None)
    if recipe.teacher is not None and recipe.teacher.objective is not None:
        _check_terms(recipe, recipe.teacher.objective, "teacher.objective", where, labels_only=True)
    for name, variant in (recipe.variants or {}).items():
        if name in ROLES:
            raise InputError(f'{where}: variants: "{name}" is taken: a run calls its own networks so.')
        _check_terms(
            recipe, variant.objective, f"variants.{name}.objective", where, labels_only=recipe.teacher is None
        )
    own = None if isinstance(recipe.control, bool) else recipe.control.objective
    if own is not None:
        _check_terms(recipe, own, "control.objective", where, labels_only=True)
    if recipe.control is not False and own is None and not labelled:
        raise InputError(
            f"{where}: control: the objective has no label term (such as cross_entropy) with a weight "
            "above 0, so there is nothing to train a control with. "
            "Give control: {objective: {…}} or control: false."
        )


def _check_terms(
    recipe: "Recipe", terms: Mapping[str, "TermSpec"], place: str, where: str, *, labels_only: bool
) -> bool:
    """Check the terms of one objective; True when a label term has weight."""
    labelled = False
    for name, term in terms.items():
        at = f"{where}: {place}.{name}"
        if name in _RESERVED_TERMS:
            raise InputError(f'{at}: a term must not be called "{name}": that is the name of the sum.')
        kind = _check_method(recipe, name, term, at)
        if labels_only and kind.kind != "label":
            why = "there is no teacher" if recipe.teacher is None else "only label terms make sense"
            raise InputError(f"{at}: this term compares with a teacher, but {why} here.")
        labelled |= kind.kind == "label" and not term.silent
    if all(term.silent for term in terms.values()):
        raise InputError(f"{where}: {place}: at least one term must have a weight above 0.")
    return labelled


def _check_method(recipe: "Recipe", name: str, term: "TermSpec", at: str) -> "type[Method]":
    """The term's method, its options tried out."""
    from limbeck import methods  # imports torch, which reading and the schema do without

    wanted = term.method or name
    if not re.fullmatch(METHOD_NAME, wanted):
        raise InputError(f"{at}: this is no method's name; say which method it is with method: NAME.")
    try:
        kind = methods.get(wanted, where=at, beside=recipe.beside)
        allowed = methods.options(kind)
        for key in term.options:
            if key not in allowed:
                listed = [*allowed, *(k for k in type(term).model_fields if k != "options")]
                raise unknown(f"option of {methods.file_name(kind)}", key, listed, at)
        methods.create(wanted, term.options, where=at, beside=recipe.beside)
    except InputError:
        raise
    except Exception as error:  # a third party's file may raise anything while it is imported or built
        raise InputError(f"{at}: {wanted} cannot be used: {type(error).__name__}: {error}") from error
    return kind
