"""What the kinds of online distillation share: peers side by side, each with an objective of its own."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective
from limbeck.schemes.base import Kind, Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking

__all__ = ["RISING", "MeanOfPeers", "Peers", "mean_answer"]

RISING: Mapping[str, object] = {"start": 0.0, "end": 1.0, "epochs": 80, "shape": "sigmoid"}
"""The weight of what is heard as the field's code has it, in trainings of 300 epochs."""


class Peers(Kind):
    """Networks that learn together. The first is the student: that is fixed beforehand, whoever is best.

    A kind says by `advise` whose answers each peer hears. Every answer that is heard is detached, so that no
    peer changes in order to please another.

    Args:
        student: the first peer.
        objective: its terms; every other peer learns by the same.
        setting: holds the other peers.
    """

    others: ClassVar[str] = "peers"
    shares: Sequence[float] = ()
    """How much each of those counts whom a peer hears, 1 in all; empty: all alike."""

    def __init__(self, student: Tapped, objective: Objective, setting: Setting) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        self.names = ("student", *setting.peers)
        self.peers = nn.ModuleList(setting.peers.values())
        self.objectives = nn.ModuleList(setting.objective() for _ in setting.peers)

    @abstractmethod
    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """What each peer hears, and the losses of the scheme's own layers, which are added to the sum.

        Args:
            said: the peers' answers, detached.
            batch: what was asked.
            teaching: what `teach` gave.
        """

    def teach(self, batch: Batch) -> Any:
        """Nothing: peers speak in `forward`."""
        return None

    @classmethod
    def together(cls, options: Mapping[str, Any]) -> int:
        """Two."""
        return 2

    def inputs(self, batch: Batch, teaching: Any) -> Sequence[Any]:
        """What each peer is asked: all the same."""
        return [batch.input] * len(self.names)

    def answers(self, batch: Batch, teaching: Any) -> list[Knowledge]:
        """What the peers say, each with its gradient."""
        asked = zip((self.student, *self.peers), self.inputs(batch, teaching), strict=True)
        return [peer(given) for peer, given in asked]

    def forward(self, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        said = self.answers(batch, teaching)
        heard, losses = self.advise([one.detach() for one in said], batch, teaching)
        return self.learnt(said, heard, batch, losses)

    def learnt(
        self,
        said: Sequence[Knowledge],
        heard: Sequence[tuple[Knowledge, ...]],
        batch: Batch,
        losses: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """The losses of all peers, summed up under `loss`.

        Args:
            said: their answers.
            heard: whose answers each hears, detached.
            batch: what was asked.
            losses: those of the scheme's own layers.
        """
        total = torch.stack([*losses.values()]).sum() if losses else None
        for number, name in enumerate(self.names):
            own = self.lesson(number, said[number], heard[number], batch)
            total = own.pop("loss") if total is None else total + own.pop("loss")
            losses |= own if number == 0 else {f"{name}.{term}": value for term, value in own.items()}
        assert total is not None
        return {"loss": total, **losses}

    def lesson(
        self, number: int, said: Knowledge, heard: Sequence[Knowledge], batch: Batch
    ) -> dict[str, Tensor]:
        """The losses of one peer, the mean over those whom it hears: label terms are the same for each."""
        objective = (self.objective, *self.objectives)[number]
        shares = self.shares or [1 / len(heard)] * len(heard)
        found: dict[str, Tensor] = {}
        for other, share in zip(heard, shares, strict=True):
            for term, value in objective(said, other, batch).items():
                part = value if len(heard) == 1 else value * share
                found[term] = found[term] + part if term in found else part
        return found

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """Every peer, beside the next."""
        everyone = [self.student, *self._tapped()]
        objectives = [self.objective, *self._objectives()]
        sources = [Speaking(peer) for peer in (*everyone[1:], everyone[0])]
        return list(zip(everyone, objectives, sources, strict=True))

    def _tapped(self) -> list[Tapped]:
        return [peer for peer in self.peers if isinstance(peer, Tapped)]

    def _objectives(self) -> list[Objective]:
        return [one for one in self.objectives if isinstance(one, Objective)]

    def lessons(self) -> list[Lesson]:
        """Each peer from labels and from the others."""
        found = []
        for name, objective in zip(self.names, (self.objective, *self._objectives()), strict=True):
            found += lessons_of(objective, name, tuple(other for other in self.names if other != name))
        return found

    def further(self) -> dict[str, nn.Module]:
        """The other peers, and the mean of all answers."""
        named = dict(zip(self.names[1:], self.peers, strict=True))
        return {**named, "ensemble": MeanOfPeers([self.student, *self.peers])}

    def kept(self) -> dict[str, nn.Module]:
        """The other peers: each is a student as good as any."""
        return {name: peer.model for name, peer in zip(self.names[1:], self._tapped(), strict=True)}

    def groups(self) -> list[tuple[nn.Module, nn.Module]]:
        """Each peer with its objective."""
        return [(self.student, self.objective), *zip(self.peers, self.objectives, strict=True)]

    def parts(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Every peer with the layers of its methods is a part, and what is the scheme's own another."""
        owners = {id(p): "own" for p in self.parameters()}
        for name, group in zip(self.names, self.groups(), strict=True):
            owners |= {id(p): name for module in group for p in module.parameters()}
        found: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for label, parameter in self.named_parameters():
            if parameter.requires_grad:
                found.setdefault(owners[id(parameter)], []).append((label, parameter))
        return found

    def close(self) -> None:
        """Take the taps off all peers."""
        super().close()
        for peer in self._tapped():
            peer.close()

    def enter(self, stage: int) -> None:
        """Let a stage run for every peer."""
        super().enter(stage)
        for objective in self._objectives():
            objective.enter(stage)

    def before_step(self, epoch: float) -> None:
        """Set the weights that change with time for every peer."""
        super().before_step(epoch)
        for objective in self._objectives():
            objective.before_step(epoch)


def mean_answer(logits: Sequence[Tensor]) -> Tensor:
    """Logits [B, C] whose softmax is the mean of the softmaxes of some logits, each [B, C]."""
    logs = torch.stack([torch.log_softmax(one.float(), dim=-1) for one in logits])
    return torch.logsumexp(logs, dim=0) - torch.log(torch.tensor(float(len(logits))))


class MeanOfPeers(nn.Module):
    """An ensemble that answers the mean of its members' probabilities, as logits."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, input: Any) -> Knowledge:
        """The joined answer: logits [B, C]."""
        return Knowledge(mean_answer([member(input).logits for member in self.members]))
