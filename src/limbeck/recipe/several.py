"""Several teachers in one recipe: what each is called, how they are weighted, and which layers are whose."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from limbeck.errors import InputError, unknown
from limbeck.recipe.base import Open
from limbeck.recipe.network import Network

if TYPE_CHECKING:
    from limbeck.recipe.objective import TermSpec
    from limbeck.recipe.recipe import Recipe

__all__ = ["Teachers", "WeightingSpec", "check_several", "spread_teachers", "with_each_teacher"]

Teachers = Annotated[tuple[Network, ...], Field(min_length=2, max_length=100, strict=False)]


class WeightingSpec(Open):
    """How much each of several teachers counts. A bare word is its name, a list the numbers of an average."""

    name: Annotated[str, Field(min_length=1)] = "average"
    """average, confidence, entropy, gradient or learned."""


def spread_teachers(data: dict[str, Any], *, inherit: bool) -> dict[str, Any]:
    """A recipe's mapping with the short forms around several teachers written out.

    Args:
        data: the recipe.
        inherit: also name the teachers that have no name, and take a list of one for the one teacher.
    """
    result, teachers = dict(data), data.get("teacher")
    weighting = result.get("weighting")
    if isinstance(weighting, str):
        result["weighting"] = {"name": weighting}
    elif isinstance(weighting, list):
        result["weighting"] = {"name": "average", "weights": weighting}
    if not inherit or not isinstance(teachers, list) or not all(isinstance(t, Mapping) for t in teachers):
        return result
    if len(teachers) == 1:
        result["teacher"] = {key: value for key, value in teachers[0].items() if key != "name"}
        return result
    result["teacher"] = [{"name": f"teacher-{n}", **t} for n, t in enumerate(teachers, 1)]
    if weighting is None and teachers:
        result["weighting"] = {"name": "average"}
    return result


def check_several(recipe: "Recipe", where: str) -> None:
    """Check what concerns several teachers, or is for several alone.

    Raises:
        InputError: the place and what to do about it.
    """
    several = isinstance(recipe.teacher, tuple)
    if not several:
        if recipe.weighting is not None:
            raise InputError(
                f"{where}: weighting: says how much each of several teachers counts, and there is "
                f"{'one' if recipe.teacher else 'none'}; give teacher: [{{…}}, {{…}}], or leave it out."
            )
        if recipe.teachers and recipe.teachers[0].name is not None:
            raise InputError(
                f"{where}: teacher.name: is for one of several teachers (teacher: [{{…}}, {{…}}]); an option "
                "of the model that is called so goes into teacher.options."
            )
        for keys, terms in recipe.objectives().items():
            for name, term in terms.items():
                _check_of_one(term, f"{where}: {_place(keys, name)}")
        return
    for key, given in (("chain", recipe.chain), ("scheme lifelong", recipe.adds_task)):
        if given:
            raise InputError(f"{where}: teacher: the {key} begins with one teacher, and there are several.")
    names = recipe.teacher_names
    for number, (name, spec) in enumerate(zip(names, recipe.teachers, strict=True)):
        at = f"{where}: teacher.{number}"
        if name in (".", ".."):
            raise InputError(f'{at}.name: "{name}" is no name for a folder.')
        if name.lower() in (earlier.lower() for earlier in names[:number]):
            # Some file systems ignore case, and each teacher has a folder.
            raise InputError(f'{at}.name: "{name}" is there twice.')
        if spec.cache is not None and spec.cache.when != "never":
            raise InputError(
                f"{at}.cache: the answers of several teachers are not kept: a cache is of one teacher, and "
                "decides alone which views come again. Leave it out."
            )
    ahead = {spec.ahead for spec in recipe.teachers if spec.ahead is not None}
    if len(ahead) > 1:
        raise InputError(
            f"{where}: teacher: ahead is one for all teachers, which are asked about the same batches; "
            f"given {', '.join(map(str, sorted(ahead)))}."
        )
    _check_weighting(recipe, where)
    for keys, terms in recipe.objectives().items():
        for name, term in terms.items():
            place = f"{where}: {_place(keys, name)}"
            if keys[0] == "control":
                _check_of_one(term, place)
            else:
                _check_term(recipe, name, term, place)


def _place(keys: tuple[str | int, ...], name: str) -> str:
    return ".".join(map(str, (*keys, name)))


def _check_of_one(term: "TermSpec", at: str) -> None:
    """Refuse a term that says which of several teachers it is of, where there is one."""
    taps = [term.layers] if isinstance(term.layers, str) else list((term.layers or {}).values())
    named = next((tap for tap in taps if "/" in tap), None)
    if named is not None:
        raise InputError(
            f'{at}.layers: "{named}" names one of several teachers, and there is one here; give '
            f'"{named.partition("/")[2]}".'
        )


def _check_weighting(recipe: "Recipe", where: str) -> None:
    from limbeck.teachers import weightings  # imports torch, which reading and the schema do without

    spec = recipe.weighting
    assert spec is not None
    weightings.create(spec.name, spec.options, len(recipe.teachers), where=f"{where}: weighting")


def _check_term(recipe: "Recipe", name: str, term: "TermSpec", at: str) -> None:
    from limbeck import methods

    kind = methods.get(term.method or name, where=at, beside=recipe.beside)
    names = recipe.teacher_names
    if name == "weighting" or name.startswith("weight."):
        raise InputError(f"{at}: a term must not be called so: that is how the teachers' weights are told.")
    if kind.reuses_head:
        raise InputError(
            f"{at}: gives the student its teacher's classifier, and there are several teachers; "
            "take one of them."
        )
    if not isinstance(term.layers, dict):
        owner, sign, _ = (term.layers or "").partition("/")
        if sign and owner not in names:
            raise unknown("teacher", owner, names, f"{at}.layers")
        return
    named = [tap for tap in term.layers.values() if "/" in tap]
    if named and len(named) < len(term.layers):
        raise InputError(
            f"{at}.layers: some of the teachers' layers say whose they are (NAME/layer), some do not; "
            "name all of them, or none for a term with each teacher."
        )
    for tap in named:
        owner = tap.partition("/")[0]
        if owner not in names:
            raise unknown("teacher", owner, names, f'{at}.layers: "{tap}"')


def with_each_teacher(recipe: "Recipe", where: str) -> dict[str, Any] | None:
    """The recipe with every term of layers that are no teacher's in particular once for each; None: as it is.

    `hint` becomes `hint.good`, `hint.bad`, …, each at its share of the weight, with that teacher's layers.

    Raises:
        InputError: two terms would have one name.
    """
    result: dict[str, Any] | None = None
    for keys, terms in recipe.objectives().items() if isinstance(recipe.teacher, tuple) else ():
        if keys[0] == "control" or not any(_shared(term) for term in terms.values()):
            continue  # a control with a teacher of its own has one
        result = result or recipe.dump()
        target: Any = result
        for key in keys[:-1]:
            target = target[key]
        # Layers are trained by one term: its weight would only change the learning rate.
        count = 1 if target.get("trains") == "layers" else len(recipe.teachers)
        written: dict[str, Any] = {}
        for name, term in terms.items():
            more = _for_each(recipe, name, term, count) if _shared(term) else _as_it_is(name, term)
            if twice := next((title for title in more if title in written), None):
                raise InputError(
                    f"{where}: {_place(keys, name)}: stands for a term with each teacher, and "
                    f'"{twice}" is there already; give it another name.'
                )
            written |= more
        target["objective"] = written
    return result


def _shared(term: "TermSpec") -> bool:
    """Whether a term's layers are no teacher's in particular."""
    if isinstance(term.layers, dict):
        return not any("/" in tap for tap in term.layers.values())
    return term.layers == "auto"


def _as_it_is(name: str, term: "TermSpec") -> dict[str, Any]:
    return {name: term.model_dump(mode="json")}


def _for_each(recipe: "Recipe", name: str, term: "TermSpec", count: int) -> dict[str, Any]:
    """A term with each of the teachers, its weight divided by a number."""
    from limbeck import methods

    plain = term.model_dump(mode="json")
    plain["method"] = term.method or name
    plain["weight"] = _divided(plain["weight"], count)
    own = name if term.method or ":" in name else methods.file_name(methods.get(name, beside=recipe.beside))
    found = {}
    for teacher in recipe.teacher_names:
        layers = plain["layers"]
        taps = (
            {s: f"{teacher}/{t}" for s, t in layers.items()}
            if isinstance(layers, dict)
            else f"{teacher}/auto"
        )
        found[f"{own}.{teacher}"] = {**plain, "layers": taps}
    return found


def _divided(weight: Any, count: int) -> Any:
    """A weight of a recipe, a ramp or steps likewise, divided by a number."""
    if isinstance(weight, dict) and "steps" in weight:
        return {"steps": {epoch: value / count for epoch, value in weight["steps"].items()}}
    if isinstance(weight, dict):
        return {**weight, "start": weight["start"] / count, "end": weight["end"] / count}
    return weight / count
