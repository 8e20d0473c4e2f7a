"""Schemes without a finished teacher in Python: peers that are modules, and a student that teaches itself."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from limbeck.arranging import DEFAULT_KIND, assembled
from limbeck.build import terms_of
from limbeck.errors import InputError, unknown
from limbeck.knowledge import Batch
from limbeck.objective import Objective, Term
from limbeck.recipe import TermSpec
from limbeck.schemes import catalogue
from limbeck.schemes.base import Kind, Setting
from limbeck.taps import Tapped

__all__ = ["Chosen", "chosen_scheme"]


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
            samples=_Unknown(catalogue.name_of(self.kind)),  # type: ignore[arg-type]  # says so when it is asked
            classes=classes,
            seed=seed,
            epochs=epochs,
            probe=probe,
            objective=lambda: Objective(copy.deepcopy(dict(terms))),
            peers={n: Tapped(net, (), copy.deepcopy(adapter), who=n) for n, net in self.peers.items()},
            generator=torch.Generator().manual_seed(seed),
        )
        return assembled(self.kind, self.options, plain, Objective(terms), setting, samples)


class _Unknown:
    """Samples that nobody can name: those of a loader of the caller's own."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        raise InputError(
            f"scheme: {self._kind} looks at other samples, or other views of them, than a batch holds, which "
            "a loader of your own cannot give. In a recipe it can: data: {source: py:package.module:factory}"
            "; kdcl and pcl do without by views=False."
        )


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
    if family == "online" and not peers:
        raise InputError(
            f"scheme.peers: give the networks that learn beside the student, {wanted - 1} or so: their first "
            "weights should differ from its own, and from each other's."
        )
    _check_terms(kind, word, terms)
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
    return listed


def _check_terms(kind: type[Kind], word: str, terms: object) -> None:
    """Refuse terms of layers where only responses are exchanged."""
    for name, term in terms.items() if isinstance(terms, Mapping) and not kind.reads_layers else ():
        if isinstance(term, Term) and (term.layers or term.auto):
            raise InputError(
                f"objective.{name}: compares layers, and with this scheme ({word}) only responses are "
                "exchanged."
            )
