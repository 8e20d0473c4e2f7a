"""Several teachers in Python: what they are called, how they are weighted, and which layers are whose."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from limbeck import methods
from limbeck.errors import InputError
from limbeck.methods.base import Method
from limbeck.objective import Ramp, Steps, Term
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble, Fixed, Frozen, Weighting, weightings
from limbeck.teachers.ensemble import taps_of
from limbeck.weighting import Changing

__all__ = ["Weights", "built", "given_weighting", "named", "shared_out"]

Weights = str | Sequence[float] | Mapping[str, Any] | Weighting
"""How much each of several teachers counts: as a recipe's `weighting`, or one that is built already."""


def named(given: Any, what: str) -> dict[str, Any]:
    """Teachers, or what belongs to them, by name: of one alone the name is empty.

    Args:
        given: one, a list (called teacher-1, teacher-2, …), or a mapping; of one entry, that is the one.
        what: the argument, for messages.

    Raises:
        InputError: an empty list, or a name that no recipe could give.
    """
    if given is None:
        return {}
    if isinstance(given, nn.Module) or not isinstance(given, Mapping | Sequence):
        return {"": given}
    found = dict(given) if isinstance(given, Mapping) else {f"teacher-{n}": t for n, t in enumerate(given, 1)}
    if not found:
        raise InputError(f"{what}: there is none; give None for plain training.")
    for name in found:
        if not isinstance(name, str) or not name or "/" in name:
            raise InputError(f'{what}: a name must be text without "/", got {name!r}.')
    return {"": next(iter(found.values()))} if len(found) == 1 else found


def given_weighting(given: Weights | None, teachers: int) -> Weighting | None:
    """How several teachers are weighted; None of one.

    Raises:
        InputError: it is given for one teacher, or cannot work.
    """
    if teachers < 2:
        if given is not None:
            raise InputError(
                "weighting: says how much each of several teachers counts; give teacher=[net, net] or a dict."
            )
        return None
    if isinstance(given, Weighting):
        return given
    if isinstance(given, Mapping):
        options = {key: value for key, value in given.items() if key != "name"}
        return weightings.create(str(given.get("name", "average")), options, teachers)
    if given is None or isinstance(given, str):
        return weightings.create(given or "average", {}, teachers)
    return weightings.create("average", {"weights": list(given)}, teachers)


def built(
    teachers: Mapping[str, nn.Module],
    adapters: Mapping[str, nn.Module],
    taps: list[str],
    weighting: Weighting | None,
) -> Fixed | None:
    """The frozen teacher, or teachers, of plain modules.

    Args:
        teachers: as `named` gives them.
        adapters: what stands before each; "" is for all that have none of their own.
        taps: what is read.
        weighting: of several.
    """

    def one(name: str, read: list[str]) -> Frozen:
        who = f"teacher.{name}" if name else "teacher"
        return Frozen(Tapped(teachers[name], read, adapters.get(name, adapters.get("")), who=who))

    if not teachers:
        return None
    if weighting is None:
        return one("", taps)
    return Ensemble({name: one(name, taps_of(name, taps)) for name in teachers}, weighting, taps)


def shared_out(
    terms: Mapping[str, Term | float], names: Sequence[str], share: float
) -> dict[str, Term | float]:
    """Terms with those of layers that are no teacher's in particular once for each teacher.

    Args:
        terms: by name; a bare number is a weight.
        names: of the teachers; fewer than two leave the terms as they are.
        share: of its weight, for each.

    Raises:
        InputError: such a term has a method that is built already, which only one of them can have; or it
            gives the student its teacher's classifier.
    """
    if len(names) < 2:
        return dict(terms)
    found: dict[str, Term | float] = {}
    for name, term in terms.items():
        if not isinstance(term, Term):
            found[name] = term
            continue
        if _kind(name, term).reuses_head:
            raise InputError(
                f"objective.{name}: gives the student its teacher's classifier, and there are several "
                "teachers."
            )
        named_none = any("/" not in tap for tap in term.layers.values())
        if not named_none and (term.owner or not term.auto):
            found[name] = term
            continue
        if isinstance(term.method, Method):
            raise InputError(
                f"objective.{name}: stands for a term with each teacher, and its method is built already; "
                "give it by name, or say whose the layers are (NAME/layer)."
            )
        for teacher in names:
            pairs = {ours: f"{teacher}/{theirs}" for ours, theirs in term.layers.items()}
            found[f"{name}.{teacher}"] = Term(
                term.method or name,
                weight=_scaled(term.weight, share),
                layers=f"{teacher}/auto" if term.auto else pairs,
                beside=term.beside,
                **term.options,
            )
    return found


def _kind(name: str, term: Term) -> type[Method]:
    if isinstance(term.method, Method):
        return type(term.method)
    return methods.get(term.method or name, where=f"objective.{name}", beside=term.beside)


def _scaled(weight: float | Changing, share: float) -> float | Changing:
    if isinstance(weight, Ramp):
        return Ramp(weight.start * share, weight.end * share, weight.epochs, weight.shape)
    if isinstance(weight, Steps):
        return Steps({epoch: value * share for epoch, value in weight.values.items()})
    assert not isinstance(weight, Changing)
    return weight * share
