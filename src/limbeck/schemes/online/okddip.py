"""Diverse peers: each auxiliary peer has a target of its own, and a leader learns from the mean of them all.

D. Chen, J.-P. Mei, C. Wang, Y. Feng, C. Chen, Online Knowledge Distillation with Diverse Peers, AAAI 2020,
https://arxiv.org/abs/1912.00350.

With h_a what enters the classifier of the auxiliary peer a, and two linear maps without bias, L and E,

    α_ab = softmax_b( L(h_a) · E(h_b) ),    t_a = Σ_b α_ab z_b,    over all auxiliary peers b, a included

    auxiliary peer a    CE(z_a, y) + w · T² KL( softmax(t_a/T) ‖ softmax(z_a/T) )
    leader              CE(z_0, y) + w · T² KL( softmax(z̄/T) ‖ softmax(z_0/T) ),    z̄ = 1/A Σ_b z_b

with T = 3, A = 3 auxiliary peers beside the leader, and w rising to 1 along exp(−5 (1 − x)²) over the first
80 of 300 epochs. The student is the leader. The weights are not symmetric, so that a weak peer can follow a
strong one without drawing it down. Logits are averaged, as the authors' code does.

Targets take no gradient. L and E learn, as published, from the auxiliary peers' own divergences: the loss
`attention`, Σ_a T² KL( softmax(t_a/T) ‖ softmax(z_a/T) ) with answers and features as constants, at this
scheme's `temperature` and, unlike published, at the weight 1 from the beginning. Peers of one width of h
share L and E; unlike peers have their own, with the same number of outputs, an eighth of the least width.
These are whole networks side by side, the paper's network-based variant; in its branch-based one they share
their lower layers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._divergence import softened_divergence
from limbeck.methods._layers import linear
from limbeck.methods._parts import check_count, check_number, widen
from limbeck.objective import Objective
from limbeck.schemes.base import Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.schemes.online._embedded import embedded
from limbeck.schemes.online._peers import RISING, Peers
from limbeck.taps import Tapped

__all__ = ["OKDDip", "attention"]

_PEERS = 4


def attention(queries: Tensor, keys: Tensor) -> Tensor:
    """How much each peer hears of each.

    Args:
        queries: L(h_a) of all peers, [B, peers, D].
        keys: E(h_b) of all peers, [B, peers, D].

    Returns:
        α [B, peers, peers]; each row is 1 in all.
    """
    return torch.softmax(queries @ keys.transpose(1, 2), dim=2)


class OKDDip(Peers):
    """Auxiliary peers hear each other by attention, the student the mean of them.

    Args:
        factor: the least width of what enters a classifier, over the number of outputs of L and E.
        temperature: of what L and E learn from, > 0.
    """

    paper = (
        "Chen, Mei, Wang, Feng, Chen (2020), Online Knowledge Distillation with Diverse Peers, AAAI, "
        "https://arxiv.org/abs/1912.00350"
    )
    aliases = ("diverse_peers",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {
            "cross_entropy": 1.0,
            "kd": {"weight": RISING, "temperature": 3.0},
        },
        "peers": _PEERS,
        "factor": 8,
    }

    def __init__(
        self,
        student: Tapped,
        objective: Objective,
        setting: Setting,
        *,
        factor: int = 8,
        temperature: float = 3.0,
    ) -> None:
        if len(setting.peers) < 2:
            raise InputError(
                "scheme.peers: okddip needs at least two auxiliary peers beside the student, who is their "
                f"leader; give 3 or more (the student counts), the paper has {_PEERS}."
            )
        read = {name: embedded(peer, setting.probe, "okddip") for name, peer in setting.peers.items()}
        super().__init__(
            student, objective, replace(setting, peers={name: peer for name, (peer, _) in read.items()})
        )
        self.temperature = temperature
        self._widths = [str(width) for _, width in read.values()]
        outputs = max(1, min(map(int, self._widths)) // factor)
        draw = setting.generator
        self.queries, self.keys = (
            nn.ModuleDict({w: linear(int(w), outputs, draw, bias=False, gain="linear") for w in self._widths})
            for _ in range(2)
        )

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """A whole factor of at least 1, a temperature above 0."""
        check_count("factor", options.get("factor", 8))
        check_number("temperature", options.get("temperature", 3.0), above=0)

    @classmethod
    def together(cls, options: Mapping[str, Any]) -> int:
        """The leader and three auxiliary peers."""
        return _PEERS

    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """The mean of the auxiliary peers for the leader, and for each of these a mean of its own."""
        logits = torch.stack([widen(one.logits) for one in said[1:]], dim=1)  # [B, A, C]
        features = [widen(one.features[0]) for one in said[1:]]
        queries, keys = (
            torch.stack([maps[w](h) for w, h in zip(self._widths, features, strict=True)], dim=1)
            for maps in (self.queries, self.keys)
        )
        personal = attention(queries, keys) @ logits
        peers, classes = logits.shape[1:]
        # The mean over all rows, times their peers: the sum over the peers of their means.
        learnt = softened_divergence(
            logits.reshape(-1, classes), personal.reshape(-1, classes), self.temperature
        )
        targets = [logits.mean(1), *personal.detach().unbind(1)]
        return [(Knowledge(target),) for target in targets], {"attention": peers * learnt}

    def lessons(self) -> list[Lesson]:
        """The leader from the auxiliary peers, and these from each other."""
        found = []
        for name, objective in zip(self.names, (self.objective, *self._objectives()), strict=True):
            found += lessons_of(objective, name, self.names[1:])
        return found
