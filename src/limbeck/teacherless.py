"""Schemes without a finished teacher in Python: peers that are modules, and a student that teaches itself."""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from limbeck import methods
from limbeck.arranging import DEFAULT_KIND, assembled
from limbeck.build import terms_of
from limbeck.errors import InputError, unknown
from limbeck.knowledge import Batch
from limbeck.methods.base import Method
from limbeck.objective import Objective, Term
from limbeck.recipe import TermSpec
from limbeck.schemes import catalogue
from limbeck.schemes.base import Kind, Setting
from limbeck.taps import Tapped

__all__ = ["Chosen", "check_apart", "chosen_scheme"]

TAKEN = ("student", "control", "teacher", "ensemble", "own")
"""What figures and parts of others are called."""

PEER_NAME = r"[A-Za-z0-9_-]{1,100}"


@dataclass(frozen=True)
class Chosen:
    """A scheme as the caller of `limbeck.distill` gave it.

    Attributes:
        kind: its class.
        options: its own.
        peers: the networks beside the student, by the names that figures of them carry.
    """

    kind: type[Kind]
    options: Mapping[str, Any]
    peers: Mapping[str, nn.Module]

    @property
    def terms(self) -> dict[str, Term | float]:
        """The objective that the paper uses."""
        given: Any = self.kind.published["objective"]
        return terms_of({name: TermSpec.model_validate(term) for name, term in given.items()})

    def scheme(
        self,
        plain: Tapped,
        terms: Mapping[str, Term | float],
        probe: Batch,
        *,
        classes: int,
        epochs: int,
        samples: int,
        seed: int,
    ) -> Kind:
        """What is trained, set up.

        Args:
            plain: the student behind its adapter; peers get copies of that.
            terms: of the objective.
            probe: a few samples.
            classes: number of classes.
            epochs: of the training.
            samples: number of training samples.
            seed: of the training.

        Raises:
            InputError: networks, terms and scheme do not fit together.
        """
        adapter = plain.adapter if plain.adapts else None
        setting = Setting(
            samples=None,
            classes=classes,
            seed=seed,
            epochs=epochs,
            probe=probe,
            objective=lambda: Objective(copy.deepcopy(dict(terms))),
            peers={n: Tapped(net, (), copy.deepcopy(adapter), who=n) for n, net in self.peers.items()},
            generator=torch.Generator().manual_seed(seed),
        )
        return assembled(self.kind, self.options, plain, Objective(terms), setting, samples)


def chosen_scheme(
    given: str | Mapping[str, Any] | None, teacher: object, stages: object, terms: object
) -> Chosen | None:
    """What `limbeck.distill` was given for a scheme; None: the classic one.

    Args:
        given: `offline`, or as in a recipe, `{"name": "online", "kind": "mutual", "peers": [network]}`.
        teacher, stages, terms: the arguments of those names (`terms` is `objective`).

    Raises:
        InputError: there is no such scheme, or it does not go with the other arguments.
    """
    if given is None or given == "offline" or given == {"name": "offline"}:
        return None
    spec = {"name": given} if isinstance(given, str) else dict(given)
    family = spec.pop("name", None)
    if family not in catalogue.FAMILIES:
        raise unknown("scheme", str(family), ("offline", *catalogue.FAMILIES), "scheme")
    if teacher is not None:
        raise InputError(f"teacher: with the scheme {family} there is none; give None.")
    if stages:
        raise InputError(f"stages: are for the scheme offline; {family} has one objective throughout.")
    word = spec.pop("kind", DEFAULT_KIND.get(family))
    if word is None:
        listed = ", ".join(catalogue.kinds(family))
        raise InputError(f"scheme: say by kind how the student teaches itself; one of {listed}.")
    kind = catalogue.get(family, word)
    peers = _peers(spec.pop("peers", None), family)
    catalogue.check(kind, spec, "scheme", ("name", "kind", "peers"))
    wanted = kind.together(spec) if family == "online" else 1
    if "branches" in catalogue.options(kind) and len(peers) != wanted - 1:
        raise InputError(
            f"scheme.peers: {word} grows each further branch from a fresh network of the student's "
            f"architecture; give {wanted - 1} (scheme.branches counts the student), got {len(peers)}."
        )
    if family == "online" and not peers:
        raise InputError(
            f"scheme.peers: give the networks that learn beside the student, {wanted - 1} or so: their first "
            "weights should differ from its own, and from each other's."
        )
    _check_terms(kind, word, terms)
    if kind.looks_up(spec):
        without = "; or give views: False" if "views" in catalogue.options(kind) else ""
        raise InputError(
            f"scheme: {word} looks at other samples, or other views of them, than a batch holds, which a "
            "loader of your own cannot give. In a recipe it can: data: {source: py:package.module:factory}"
            f"{without}."
        )
    return Chosen(kind, spec, peers)


def _peers(given: Any, family: str) -> dict[str, nn.Module]:
    if given is None:
        return {}
    if family != "online":
        raise InputError("scheme.peers: own is one network that teaches itself; online has peers.")
    listed = dict(given) if isinstance(given, Mapping) else None
    if listed is None and isinstance(given, Sequence):
        listed = {f"peer-{number}": network for number, network in enumerate(given, 2)}
    if not listed or not all(isinstance(network, nn.Module) for network in listed.values()):
        raise InputError("scheme.peers: must be modules, in a list or by name.")
    for name in listed:
        if not isinstance(name, str) or not re.fullmatch(PEER_NAME, name) or name in TAKEN:
            raise InputError(
                f"scheme.peers: {name!r} cannot be a peer's name; take letters, digits, - and _, and none of "
                f"{', '.join(TAKEN)}, which others are called."
            )
    return listed


def check_apart(student: nn.Module, peers: Mapping[str, nn.Module]) -> None:
    """Refuse peers that share tensors with the student or with each other: nobody learns from itself.

    Raises:
        InputError: two of them do.
    """
    owners: dict[int, str] = {}
    for name, network in {"the student": student, **peers}.items():
        tensors = {id(t) for t in (*network.parameters(), *network.buffers())}
        twin = next((owners[number] for number in tensors if number in owners), None)
        if twin is not None:
            raise InputError(
                f"scheme.peers: {name} shares its weights with {twin}, and nobody learns from itself; give "
                "it a network of its own."
            )
        owners |= dict.fromkeys(tensors, name)


def _of_labels(method: str | Method) -> bool:
    """Whether a method looks at labels alone."""
    return (method if isinstance(method, Method) else methods.get(method)).kind == "label"


def _check_terms(kind: type[Kind], word: str, terms: object) -> None:
    """Refuse terms of layers where only responses are exchanged, and labels alone where terms teach."""
    if isinstance(terms, Mapping) and kind.needs_terms:
        given = [t.method if isinstance(t, Term) and t.method else name for name, t in terms.items()]
        if all(map(_of_labels, given)):
            raise InputError(
                f"objective: all terms look at labels alone, so this scheme ({word}) would teach nothing; "
                "add a term such as kd."
            )
    for name, term in terms.items() if isinstance(terms, Mapping) and not kind.reads_layers else ():
        if isinstance(term, Term) and (term.layers or term.auto):
            raise InputError(
                f"objective.{name}: compares layers, and with this scheme ({word}) only responses are "
                "exchanged."
            )
