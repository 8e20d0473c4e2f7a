"""What a recipe's scheme must satisfy: that there is such a kind, and that networks and terms fit it."""

from typing import TYPE_CHECKING

from limbeck.errors import InputError, unknown
from limbeck.recipe.lifelong import check_lifelong
from limbeck.recipe.network import TEACHERS_ALONE

if TYPE_CHECKING:
    from limbeck.recipe.network import Network
    from limbeck.recipe.recipe import Recipe

__all__ = ["check_scheme", "check_student"]

SCHEMES = ("offline", "online", "own", "lifelong")


def check_student(student: "Network", where: str) -> None:
    """Refuse what only a teacher has.

    Raises:
        InputError: names the key.
    """
    for key in TEACHERS_ALONE:
        if getattr(student, key):
            hint = " How the student is trained stands at the top of the recipe." if key != "classes" else ""
            raise InputError(f"{where}.{key}: only a teacher has this key.{hint}")


def check_scheme(recipe: "Recipe", where: str) -> None:
    """Check who teaches whom.

    Raises:
        InputError: the place, and what to do about it.
    """
    scheme, at = recipe.scheme, f"{where}: scheme"
    if scheme.name not in SCHEMES:
        raise unknown("scheme", scheme.name, SCHEMES, f"{at}.name")
    if scheme.name == "lifelong":
        check_lifelong(recipe, where)
        return
    if scheme.old is not None:
        raise InputError(f"{at}.old: {scheme.name} has no old task; lifelong has: {{name: lifelong, old}}.")
    if recipe.metric == "task_accuracy":
        raise InputError(
            f"{where}: metric: task_accuracy is for the scheme lifelong; {scheme.name} has one task."
        )
    if scheme.name == "offline":
        for key in ("kind", "peers"):
            if getattr(scheme, key) is not None:
                raise InputError(f"{at}.{key}: offline has none; it is for {_owners(key)}.")
        for key in scheme.options:
            raise unknown("key", key, ["name"], at)
        return
    _check_alone(recipe, where)
    _check_kind(recipe, where)
    if scheme.name == "online":
        _check_peers(recipe, where)
    elif scheme.peers is not None:
        raise InputError(f"{at}.peers: own is one network that teaches itself; online has peers.")


def _owners(key: str) -> str:
    return "online" if key == "peers" else "online and own"


def _check_alone(recipe: "Recipe", where: str) -> None:
    """Refuse what would be ignored beside a scheme without a teacher of its own."""
    name = recipe.scheme.name
    if recipe.teacher is not None:
        whom = "peers teach each other" if name == "online" else "the student teaches itself"
        raise InputError(
            f"{where}: teacher: with the scheme {name} {whom}, so there is no other teacher; leave it out, "
            "or take the scheme offline."
        )
    if recipe.stages:
        raise InputError(f"{where}: stages: are for the scheme offline; {name} has one objective throughout.")
    if recipe.variants:
        raise InputError(f"{where}: variants: compare objectives of the scheme offline, not of {name}.")
    if recipe.train.shard:
        raise InputError(f"{where}: train.shard: the networks of the scheme {name} cannot be shared out.")
    if recipe.student.head is not None:
        raise InputError(f"{where}: student.head: there is no teacher whose classifier it could be.")


def _check_kind(recipe: "Recipe", where: str) -> None:
    from limbeck import methods  # imports torch, which reading and the schema do without
    from limbeck.schemes import catalogue

    scheme, at = recipe.scheme, f"{where}: scheme"
    kind = scheme.kind or ("mutual" if scheme.name == "online" else None)
    if kind is None:
        listed = ", ".join(catalogue.kinds(scheme.name))
        raise InputError(f"{at}.kind: say how the student teaches itself; one of {listed}.")
    found = catalogue.get(scheme.name, kind, where=f"{at}.kind")
    catalogue.check(found, scheme.options, at, ("name", "kind", "peers"))
    if found.hard_targets and recipe.data.mix is not None:
        raise InputError(
            f"{where}: data.mix: the scheme {scheme.name} ({kind}) needs samples of one class each, which "
            "mixed ones are not; leave it out."
        )
    if found.looks_up(scheme.options) and recipe.data.mix is not None:
        raise InputError(
            f"{where}: data.mix: the scheme {scheme.name} ({kind}) looks at further views of the samples of "
            "a batch, which mixed ones do not have; leave it out, or give scheme.views: false."
        )
    exchanged = False
    for name, term in recipe.objective.items():
        method = methods.get(term.method or name, where=f"{where}: objective.{name}", beside=recipe.beside)
        place = f"{where}: objective.{name}"
        if method.reuses_head:
            raise InputError(f"{place}: needs a finished teacher, and the scheme {scheme.name} has none.")
        if method.pairs != "none" and not found.reads_layers:
            raise InputError(
                f"{place}: compares layers, and with the scheme {scheme.name} ({kind}) only responses are "
                "exchanged; take a term of logits, such as kd."
            )
        exchanged |= method.kind != "label" and not term.silent
    if found.needs_terms and not exchanged:
        raise InputError(
            f"{where}: objective: all terms look at labels alone, so the scheme {scheme.name} ({kind}) would "
            "teach nothing; add a term such as kd."
        )


def _check_peers(recipe: "Recipe", where: str) -> None:
    scheme = recipe.scheme
    if scheme.peers == 1 or scheme.peers == ():
        raise InputError(
            f"{where}: scheme.peers: a peer alone has nobody to learn from; give at least 2 (the student "
            "counts), or a list of the networks beside the student."
        )
    for number, peer in enumerate(scheme.peers if isinstance(scheme.peers, tuple) else ()):
        at = f"{where}: scheme.peers.{number}"
        check_student(peer, at)
        if peer.head is not None:
            raise InputError(f"{at}.head: there is no teacher whose classifier it could be.")
