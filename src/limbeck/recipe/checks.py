"""What a recipe must satisfy beyond the types of its parts."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from limbeck.errors import InputError, unknown
from limbeck.reading import shown
from limbeck.recipe.base import METHOD_NAME
from limbeck.recipe.control import ControlSpec, check_own_teacher
from limbeck.recipe.scheming import check_scheme, check_student
from limbeck.recipe.several import check_several

if TYPE_CHECKING:
    from limbeck.methods.base import Method
    from limbeck.recipe.network import Network
    from limbeck.recipe.objective import TermSpec
    from limbeck.recipe.recipe import Recipe

__all__ = ["check_recipe", "check_supported"]

_LATER_SCHEMES = ("data_free", "on_policy")
# One process group, one device: what `train` says of them holds for teacher and control as well.
_COMMON_KEYS = ("precision", "compile", "channels_last", "threads", "device", "shard")
_RESERVED_TERMS = ("loss",)
ROLES = ("teacher", "control", "student")
"""What the networks of a run are called, in its folder and in its curves; several teachers teacher.NAME."""


def check_supported(data: Mapping[str, Any], where: str) -> None:
    """Refuse what the design names but this version does not do yet, before it counts as a wrong key.

    Raises:
        InputError: the key, and that it is not yet supported.
    """
    for place in _later(data):
        raise InputError(f"{where}: {place}: not yet supported in this version of Limbeck.")


def _later(data: Mapping[str, Any]) -> Iterator[str]:
    scheme = data.get("scheme")
    name = scheme.get("name") if isinstance(scheme, dict) else scheme
    if isinstance(name, str) and name in _LATER_SCHEMES:
        yield f'scheme "{name}"'


def check_recipe(recipe: "Recipe", where: str) -> None:
    """Check how the parts fit together, and every term against its method.

    Raises:
        InputError: the place and what to do about it.
    """
    check_scheme(recipe, where)
    check_student(recipe.student, f"{where}: student")
    for place, teacher in _teachers(recipe):
        _check_teacher(teacher, f"{where}: {place}")
    if isinstance(recipe.control, ControlSpec) and recipe.control.teacher is not None:
        _check_teacher(recipe.control.teacher, f"{where}: control.teacher")
    check_own_teacher(recipe, where)
    check_several(recipe, where)
    if recipe.data.labels and recipe.data.samples and recipe.data.labels > recipe.data.samples:
        raise InputError(
            f"{where}: data.labels: must be at most data.samples ({recipe.data.samples}), "
            f"given {recipe.data.labels}."
        )
    _check_common(recipe, where)
    _check_objectives(recipe, where)


def with_reused_head(recipe: "Recipe", where: str) -> dict[str, Any] | None:
    """The recipe with the student's `head` set where its objective gives it the teacher's; None: as it is.

    Raises:
        InputError: the head is to be the teacher's, and no term gives it that.
    """
    from limbeck import methods

    own = [terms for keys, terms in recipe.objectives().items() if not {"variants", "control"} & set(keys)]
    terms = [(name, term) for found in own for name, term in found.items() if not term.silent]
    kinds = [methods.get(term.method or name, beside=recipe.beside) for name, term in terms]
    reused = any(kind.reuses_head for kind in kinds)
    if reused == (recipe.student.head == "teacher"):
        return None
    if not reused:
        raise InputError(
            f"{where}: student.head: no term of the objective gives the student its teacher's classifier; "
            "add simple_projector, or leave the key out."
        )
    result = recipe.dump()
    result["student"]["head"] = "teacher"
    return result


def _teachers(recipe: "Recipe") -> list[tuple[str, "Network"]]:
    """All teachers, each with its place in the recipe."""
    if isinstance(recipe.teacher, tuple):
        return [(f"teacher.{number}", spec) for number, spec in enumerate(recipe.teacher)]
    return [("teacher", spec) for spec in recipe.teachers]


def _check_teacher(teacher: "Network", place: str) -> None:
    if teacher.head is not None:
        raise InputError(f"{place}.head: only a student has this key.")
    if teacher.untaught and not teacher.blank:
        raise InputError(
            f"{place}: knows nothing yet. Give weights: FILE, pretrained: true, "
            "or train: {…} to train it first (blank: true takes it as it is, to try things out)."
        )


def _check_common(recipe: "Recipe", where: str) -> None:
    """Refuse a machine of its own for teacher or control, which would be ignored."""
    owners = {
        **{place: teacher.train for place, teacher in _teachers(recipe)},
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
    alone = not recipe.is_taught and recipe.chain is None  # the links of a chain are checked one by one
    labelled = False
    for keys, terms in recipe.objectives().items():
        only = alone and keys[0] != "control"
        found = _check_terms(recipe, terms, ".".join(map(str, keys)), where, labels_only=only)
        labelled |= found and keys == ("objective",)
    for place, teacher in _teachers(recipe):
        if teacher.objective is not None:
            _check_terms(recipe, teacher.objective, f"{place}.objective", where, labels_only=True)
    for name in recipe.variants or {}:
        if name in ROLES or name.startswith("teacher."):
            raise InputError(f'{where}: variants: "{name}" is taken: a run calls its own networks so.')
    _check_stages(recipe, where)
    own = None if isinstance(recipe.control, bool) else recipe.control.objective
    if isinstance(recipe.control, ControlSpec) and own is not None and recipe.control.teacher is None:
        _check_terms(recipe, own, "control.objective", where, labels_only=True)
    if recipe.control is not False and own is None and not labelled and recipe.chain is None:
        raise InputError(
            f"{where}: control: the objective has no label term (such as cross_entropy) with a weight "
            "above 0, so there is nothing to train a control with. "
            "Give control: {objective: {…}} or control: false."
        )


def _check_stages(recipe: "Recipe", where: str) -> None:
    """Check names and lengths of stages, and that what trains layers has layers to train."""
    from limbeck import methods

    for keys, part in recipe.parts().items():
        place = "".join(f"{key}." for key in keys)
        stages = part.stages or ()
        names = [stage.name for stage in stages]
        for number, stage in enumerate(stages):
            at = f"{where}: {place}stages.{number}"
            if names.count(stage.name) > 1:
                raise InputError(f'{at}.name: "{stage.name}" is there twice.')
            for name, term in stage.objective.items() if stage.trains == "layers" else ():
                if methods.get(term.method or name, beside=recipe.beside).stage != "layers":
                    raise InputError(
                        f"{at}.objective.{name}: this method has no layers that are trained first; "
                        "give trains: student."
                    )
        taken, epochs = (
            sum(stage.epochs for stage in stages if stage.trains == "student"),
            recipe.epochs_of(keys),
        )
        if epochs and taken and taken >= epochs:
            raise InputError(
                f"{where}: {place}stages: take {taken} of the student's {epochs} epochs "
                "(train.epochs counts them all), so none is left for the objective itself."
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
            why = "only label terms make sense" if recipe.is_taught else "there is no teacher"
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
        if kind.hard_targets and recipe.data.mix is not None and not term.silent:
            raise InputError(
                f"{at}: {methods.file_name(kind)} needs the class of each sample, and data.mix mixes them; "
                "leave out one of the two."
            )
    except InputError:
        raise
    except Exception as error:  # a third party's file may raise anything while it is imported or built
        raise InputError(f"{at}: {wanted} cannot be used: {type(error).__name__}: {error}") from error
    return kind
