"""The links of a recipe's chain as recipes of their own: who teaches whom, and what the control is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from limbeck.errors import InputError
from limbeck.reading import shown
from limbeck.recipe.links import GenerationsSpec, LinkSpec, merged

if TYPE_CHECKING:
    from limbeck.recipe.recipe import Recipe

__all__ = ["Link", "check_chain", "folder_of", "links_of"]

CARRIED = ("cache", "backend", "ahead")
"""How a teacher is asked: what the recipe says of it holds for the teachers of all links."""

SAME = ("student", "objective", "stages", "train")
"""What makes two trainings by one teacher the same training."""


@dataclass(frozen=True)
class Link:
    """One link of a chain.

    Attributes:
        number: from 1.
        name: as the recipe calls it.
        recipe: what its run does.
        taught_by: the name of the link before; None: the first, whose teacher is the recipe's.
        direct: its students are what the first teacher makes of the last link's student in equal epochs (or,
            without a teacher, plain training does), so that they are the control of the chain.
    """

    number: int
    name: str
    recipe: "Recipe"
    taught_by: str | None
    direct: bool

    @property
    def folder(self) -> str:
        """Where its run lies in the folder of the chain."""
        return folder_of(self.number, self.name)


def folder_of(number: int, name: str) -> str:
    """Where the run of a link lies in the folder of the chain."""
    return f"chain/{number}-{name}"


def links_of(recipe: "Recipe", out: Path | None = None) -> tuple[Link, ...]:
    """The links of a recipe's chain, in order.

    Args:
        recipe: has a chain.
        out: the folder of the chain's run, in which each link finds the one before. None: to try them out,
            as long as nothing is trained, the teachers stand there untrained.

    Raises:
        InputError: a link cannot work; the message names it.
    """
    assert recipe.chain is not None
    specs = recipe.chain.links() if isinstance(recipe.chain, GenerationsSpec) else recipe.chain
    laid = [_laid_over(recipe, number, spec) for number, spec in enumerate(specs)]
    first, last = laid[0], laid[-1]
    teacher = first["teacher"]
    carried = {key: teacher.get(key) if isinstance(teacher, dict) else None for key in CARRIED}
    if carried["cache"] is not None:  # a folder holds the answers of one teacher
        carried["cache"] = {**carried["cache"], "folder": None}
    for number, (spec, taught) in enumerate(zip(specs[:-1], laid[1:], strict=True), 1):
        own = _of_run(laid[number - 1]["student"], out and out / folder_of(number, spec.name))
        taught["teacher"] = {**own, **carried}
    if teacher is None:
        first |= {"objective": _labels_alone(recipe, first["objective"], _at(0, specs[0])), "stages": None}
    wanted, last["control"] = last["control"], False
    made = [_checked(recipe, settings, _at(n, specs[n])) for n, settings in enumerate(laid)]
    direct = wanted is True and _same_training(made[0], made[-1], _at(len(specs) - 1, specs[-1]))
    if wanted is not False and not direct:
        folder = out and out / folder_of(1, specs[0].name)
        last["control"] = wanted if teacher is None else _direct_pair(wanted, teacher, folder)
        made[-1] = _checked(recipe, last, _at(len(specs) - 1, specs[-1]))
    return tuple(
        Link(
            number=n + 1,
            name=spec.name,
            recipe=one,
            taught_by=specs[n - 1].name if n else None,
            direct=direct and n == 0,
        )
        for n, (spec, one) in enumerate(zip(specs, made, strict=True))
    )


def check_chain(recipe: "Recipe", where: str) -> None:
    """Check a chain as a whole, and then each of its links.

    Raises:
        InputError: the place and what to do about it.
    """
    if recipe.chain is None:
        return
    if recipe.variants:
        raise InputError(
            f"{where}: chain: cannot be compared with variants; a chain is one student after another, and "
            "its control the direct pair. Leave out one of the two."
        )
    if recipe.scheme.name != "offline":
        raise InputError(
            f"{where}: chain: its links are taught by a finished network (scheme: offline), and this "
            f'recipe says "{recipe.scheme.name}".'
        )
    if not isinstance(recipe.chain, GenerationsSpec):
        _check_links(recipe.chain, where)
    for link in links_of(recipe):
        given, common = link.recipe.train.device, recipe.train.device
        if given != common:
            raise InputError(
                f"{where}: chain.{link.number - 1}.train.device: is one for all links (train.device: "
                f"{shown(common)}), given {shown(given)}."
            )


def _check_links(specs: tuple[LinkSpec, ...], where: str) -> None:
    if len(specs) < 2:
        raise InputError(
            f"{where}: chain: has {len(specs) or 'no'} link{'' if len(specs) == 1 else 's'}, and it takes "
            "two for one to teach the other; without chain the recipe trains one student."
        )
    names = [spec.name for spec in specs]
    for number, spec in enumerate(specs):
        if names.index(spec.name) < number:
            raise InputError(f'{where}: chain.{number}.name: "{spec.name}" is there twice.')
        if number and spec.teacher is not None:
            raise InputError(
                f"{where}: chain.{number}.teacher: the teacher of this link is the link before, "
                f'"{names[number - 1]}"; only the first has one of its own.'
            )


def _at(number: int, spec: LinkSpec) -> str:
    return f"chain.{number} ({spec.name})"


def _laid_over(recipe: "Recipe", number: int, spec: LinkSpec) -> dict[str, Any]:
    """The recipe's settings with those of a link laid over them; its control is what was asked for it."""
    base = recipe.dump()
    for key in ("chain", "variants"):
        base.pop(key)
    over = {key: value for key, value in spec.model_dump(mode="json").items() if value is not None}
    name = over.pop("name")
    last = number + 1 == _count(recipe)
    if not last and "control" not in over:
        base["control"] = False
    elif isinstance(base["control"], dict) and base["control"].get("train") and "train" in over:
        # What a link says of training holds for its control as well.
        base["control"]["train"] = merged(base["control"]["train"], over["train"])
    if not last:
        base["export"] = {"formats": []}
    return {**merged(base, over), "name": f"{recipe.name}-{name}"[:100]}


def _count(recipe: "Recipe") -> int:
    chain = recipe.chain
    assert chain is not None
    return chain.generations if isinstance(chain, GenerationsSpec) else len(chain)


def _of_run(student: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """The student of a link as the teacher of the next."""
    if folder is not None:
        return {"model": f"run:{folder}"}
    return {**_bare(student), "blank": True}


def _bare(network: dict[str, Any]) -> dict[str, Any]:
    """A network without its weights, and how it is trained."""
    gone = ("weights", "pretrained", "head", "train", "objective", "blank")
    return {key: value for key, value in network.items() if key not in gone}


def _direct_pair(given: Any, teacher: dict[str, Any], first: Path | None) -> Any:
    """The control of a chain: the last link's student, taught by the first teacher."""
    own = given if isinstance(given, dict) else {}
    if own.get("teacher") is not None or own.get("objective") is not None:
        return own
    if teacher.get("train") is not None:  # the first link trained it
        bare = _bare(teacher)
        file = None if first is None else str(first / "state" / "teacher" / "teacher.safetensors")
        teacher = {**bare, "blank": True} if file is None else {**bare, "weights": file}
    return {**own, "teacher": teacher}


def _same_training(first: "Recipe", last: "Recipe", at: str) -> bool:
    """Whether the control of a chain would only repeat its first link."""
    one, other = first.dump(), last.dump()
    if first.teacher is None:
        other |= {"objective": _labels_alone(last, other["objective"], at), "stages": None}
    return last.train.epochs > 0 and all(one[key] == other[key] for key in SAME)


def _labels_alone(recipe: "Recipe", terms: dict[str, Any], at: str) -> dict[str, Any]:
    """The label terms at a total weight of 1: what plain training learns from, as a control does.

    An objective that has no other terms stays as it is.
    """
    from limbeck import methods  # imports torch, which reading and the schema do without
    from limbeck.recipe.objective import TermSpec

    try:
        specs = {n: TermSpec.model_validate_json(json.dumps(t)) for n, t in terms.items() if t is not None}
    except ValidationError:
        return terms  # which is told when the link is checked
    kept = {
        name: spec
        for name, spec in specs.items()
        if not spec.silent and methods.get(spec.method or name, beside=recipe.beside).kind == "label"
    }
    if len(kept) == len(specs):
        return terms
    if not kept:
        raise InputError(
            f"{_where(recipe)}: {at}: has no teacher, so that it learns from labels alone, and no term of "
            "the objective looks at them (such as cross_entropy). Give it an objective of its own, or a "
            "teacher."
        )
    total = sum(spec.final for spec in kept.values())
    return {
        name: {**spec.model_dump(mode="json"), "weight": spec.final / total if total else 1 / len(kept)}
        for name, spec in kept.items()
    }


def _where(recipe: "Recipe") -> str:
    return "recipe" if recipe.path is None else str(recipe.path)


def _checked(recipe: "Recipe", settings: dict[str, Any], at: str) -> "Recipe":
    where = _where(recipe)
    try:
        return type(recipe).from_dict(settings, recipe.path)
    except InputError as error:
        raise InputError(str(error).replace(f"{where}: ", f"{where}: {at}: ", 1)) from error
