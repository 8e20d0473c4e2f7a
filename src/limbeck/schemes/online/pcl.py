"""Peer collaborative learning: peers learn from a classifier of all their features, and from their averages.

G. Wu, S. Gong, Peer Collaborative Learning for Online Knowledge Distillation, AAAI 2021,
https://arxiv.org/abs/2006.04147.

With h_k what enters the classifier of peer k, the peer ensemble teacher is one more linear layer,
z_e = W [h_1; …; h_K] + b, and each peer's mean teacher the moving average of its weights, which says z̄_k:

    L = CE(z_e, y) + Σ_k { CE(z_k, y)
        + w · T² [ KL( p_e ‖ p_k ) + 1/(K−1) Σ_{l≠k} KL( p̄_l ‖ p_k ) ] },    p = softmax(z/T)

with K = 3, T = 3, an average that keeps .999 of itself, and w rising to 1 along exp(−5 (1 − x)²) over the
first 80 of 300 epochs. A peer hears a mean of both teachers here, so that their terms have the weight 2 in
`published`. What is heard is a target and takes no gradient; the ensemble's own cross-entropy trains the
peers' features as well as its layer, as published.

Each peer sees a view of its own of the same samples (`views`), and so does its average. The average follows
`limbeck.teachers.ema`: its ramp is (1 + step)/(10 + step), the paper's 1 − 1/step. These are whole networks
side by side; the paper's peers share their lower layers. `train.ema` ships the average of the student.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import linear
from limbeck.methods._parts import check_number, check_switch
from limbeck.objective import Objective
from limbeck.schemes.base import Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.schemes.online._embedded import embedded
from limbeck.schemes.online._joint import Joint
from limbeck.schemes.online._peers import RISING
from limbeck.schemes.online._state import joined, parted
from limbeck.schemes.online._views import Viewing
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking
from limbeck.teachers.ema import Ema

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["PCL"]


class PCL(Viewing):
    """Each peer hears a classifier of all features, and the averages of the other peers' weights.

    Args:
        decay: the largest share of an average that is kept at each step, in [0, 1).
        views: each peer sees a view of its own of the same samples.
    """

    paper = (
        "Wu, Gong (2021), Peer Collaborative Learning for Online Knowledge Distillation, AAAI, "
        "https://arxiv.org/abs/2006.04147"
    )
    aliases = ("peer_collaborative",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {
            "cross_entropy": 1.0,
            "kd": {"weight": {**RISING, "end": 2.0}, "temperature": 3.0},
        },
        "peers": 3,
        "decay": 0.999,
        "views": True,
    }

    def __init__(
        self,
        student: Tapped,
        objective: Objective,
        setting: Setting,
        *,
        decay: float = 0.999,
        views: bool = True,
    ) -> None:
        read = [embedded(peer, setting.probe, "pcl") for peer in (student, *setting.peers.values())]
        everyone = [peer for peer, _ in read]
        peers = dict(zip(setting.peers, everyone[1:], strict=True))
        super().__init__(everyone[0], objective, replace(setting, peers=peers), views)
        width = sum(width for _, width in read)
        self.classifier = linear(width, setting.classes, setting.generator, gain="linear")
        self.joint = Joint(objective, "pcl")
        others = len(peers)
        self.shares = (0.5, *[0.5 / others] * others)
        self._means = [Ema(peer, [], decay) for peer in everyone]

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """A decay in [0, 1)."""
        check_number("decay", options.get("decay", 0.999), least=0, below=1)
        check_switch("views", options.get("views", True))

    @classmethod
    def together(cls, options: Mapping[str, Any]) -> int:
        """Three."""
        return 3

    def teach(self, batch: Batch) -> Any:
        """What each peer is asked, and what its average says to that."""
        given = self.seen(batch)
        means = [mean(Batch(one)) for mean, one in zip(self._means, given, strict=True)]
        return given, means

    def inputs(self, batch: Batch, teaching: Any) -> Sequence[Any]:
        """The views."""
        given: Sequence[Any] = teaching[0]
        return given

    def forward(self, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        said = self.answers(batch, teaching)
        joined = self._joined([one.features[0] for one in said])
        heard, _ = self.advise([Knowledge(joined.detach())], batch, teaching)
        return self.learnt(said, heard, batch, {"ensemble": self.joint(joined, batch)})

    def _joined(self, features: Sequence[Tensor]) -> Tensor:
        """The ensemble's logits [B, C]."""
        logits: Tensor = self.classifier(torch.cat([*features], dim=1))
        return logits

    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """The ensemble, which alone speaks here, and the averages of the others."""
        means = teaching[1]
        others = [[mean for m, mean in enumerate(means) if m != n] for n in range(len(means))]
        return [(*said, *heard) for heard in others], {}

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """Every peer, and the ensemble's labels."""
        return [*super().learners(), (self.student, self.joint.objective, Speaking(self.student))]

    def lessons(self) -> list[Lesson]:
        """Each peer from the ensemble and the averages of the others, and the ensemble from labels."""
        found = [Lesson("ensemble", ("labels",), self.joint.terms)]
        for name, objective in zip(self.names, (self.objective, *self._objectives()), strict=True):
            averages = [f"average of {other}" for other in self.names if other != name]
            found += lessons_of(objective, name, ("ensemble", *averages))
        return found

    def further(self) -> dict[str, nn.Module]:
        """The other peers, and the ensemble's classifier."""
        return {**super().further(), "ensemble": _Ensemble([self.student, *self.peers], self.classifier)}

    def place(self, runtime: "Runtime") -> None:
        super().place(runtime)
        for mean in self._means:
            mean.place(runtime)

    def after_step(self) -> None:
        for mean, peer in zip(self._means, (self.student, *self._tapped()), strict=True):
            mean.after_step(peer.model)

    def teacher_state(self) -> dict[str, Tensor]:
        return joined({name: mean.state() for name, mean in zip(self.names, self._means, strict=True)})

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        for name, mean in zip(self.names, self._means, strict=True):
            mean.load_state(parted(state, name))


class _Ensemble(nn.Module):
    """Peers and the classifier of all their features."""

    def __init__(self, peers: Sequence[nn.Module], classifier: nn.Module) -> None:
        super().__init__()
        self.peers = nn.ModuleList(peers)
        self.classifier = classifier

    def forward(self, input: Any) -> Knowledge:
        """The classifier's answer: logits [B, C]."""
        features = [peer(input).features[0] for peer in self.peers]
        return Knowledge(self.classifier(torch.cat(features, dim=1)))
