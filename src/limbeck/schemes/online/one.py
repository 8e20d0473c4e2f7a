"""On-the-fly native ensemble: one network whose last stage is there several times, taught by all together.

X. Lan, X. Zhu, S. Gong, Knowledge Distillation by On-the-Fly Native Ensemble, NeurIPS 2018,
https://arxiv.org/abs/1806.04606.

The branches share the trunk, and each has a last stage and a classifier of its own. A gate weighs them for
each sample by what the trunk gives, averaged over its places, v:

    g = softmax( ReLU( BatchNorm( W v + b ) ) ),    z_e = Σ_k g_k z_k

    L = CE(z_e, y) + Σ_k CE(z_k, y) + w · T² Σ_k KL( softmax(z_e/T) ‖ softmax(z_k/T) )

with 3 branches and T = 3; w rises to 1 along exp(−5 (1 − x)²) over the first 80 of 300 epochs, as in the
authors' code. z_e is a target in the divergence and takes no gradient there; its cross-entropy trains gate,
branches and trunk.

What is shipped is the trunk with the first branch, which is the plain network: it has its control's first
weights, and costs what that costs. The other branches begin with weights of their own. The gate's BatchNorm
sees the samples of all processes.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones, place
from limbeck.methods._layers import linear
from limbeck.methods._parts import check_count
from limbeck.objective import Objective
from limbeck.schemes.base import Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.schemes.online._branches import Shelf, grow, trunk_of
from limbeck.schemes.online._joint import Joint
from limbeck.schemes.online._peers import RISING, Peers
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking

__all__ = ["One"]


class One(Peers):
    """Branches of one network hear their gated ensemble.

    Args:
        branches: how often the last stage is there, that of the student included; at least 2.
    """

    paper = (
        "Lan, Zhu, Gong (2018), Knowledge Distillation by On-the-Fly Native Ensemble, NeurIPS, "
        "https://arxiv.org/abs/1806.04606"
    )
    aliases = ("native_ensemble",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {
            "cross_entropy": 1.0,
            "kd": {"weight": RISING, "temperature": 3.0},
        },
        "branches": 3,
    }

    def __init__(self, student: Tapped, objective: Objective, setting: Setting, *, branches: int = 3) -> None:
        if len(setting.peers) != branches - 1:
            raise InputError(
                "scheme.peers: one is a single network with several ends; leave the key out, and give "
                "scheme.branches."
            )
        super().__init__(student, objective, replace(setting, peers={}))
        trunk = trunk_of(student, setting.probe)
        # A second reader of the same network, in no list of modules: the student itself reads nothing when
        # it is evaluated, and is saved once.
        self._reading = (
            Tapped(student.model, (trunk.given, trunk.end, *trunk.taps), student.adapter, who=student.who),
        )
        self._shelf = Shelf()
        self.branches = nn.ModuleList(
            grow(other, trunk, self._reading[0], setting.probe, self._shelf)
            for other in setting.peers.values()
        )
        self.objectives = nn.ModuleList(setting.objective() for _ in self.branches)
        self.names = ("student", *(f"branch-{number}" for number in range(2, len(self.branches) + 2)))
        width = Speaking(self._reading[0])(setting.probe).features[1].shape[1]
        self.gate = _Gate(width, len(self.names), setting.generator)
        self.joint = Joint(objective, "one")

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """At least two branches."""
        check_count("branches", options.get("branches", 3), least=2)

    @classmethod
    def together(cls, options: Mapping[str, Any]) -> int:
        """As many as there are to be branches."""
        found: int = options.get("branches", 3)
        return found

    def forward(self, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        said, joined = self.together_on(batch.input)
        heard, _ = self.advise([Knowledge(joined.detach())], batch, teaching)
        return self.learnt(said, heard, batch, {"ensemble": self.joint(joined, batch)})

    def together_on(self, input: Any) -> tuple[list[Knowledge], Tensor]:
        """What each branch says, and the ensemble's logits [B, C]."""
        answer: Knowledge = self._reading[0](input)
        given, end, *outputs = answer.features
        self._shelf.values = tuple(outputs)
        logits = [answer.logits, *(branch(given) for branch in self.branches)]
        self._shelf.values = ()
        weights = self.gate(end)
        joined = (weights[:, :, None] * torch.stack(logits, dim=1)).sum(1)
        return [Knowledge(one) for one in logits], joined

    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """The ensemble, which alone speaks here, for all."""
        return [tuple(said)] * len(self.names), {}

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """Every branch with the trunk, beside itself; and the ensemble's labels."""
        everyone = [self.student, *self._whole().values()]
        objectives = [self.objective, *self._objectives()]
        found = [(one, own, Speaking(one)) for one, own in zip(everyone, objectives, strict=True)]
        return [*found, (self.student, self.joint.objective, Speaking(self.student))]

    def _whole(self) -> dict[str, Tapped]:
        """The other branches, each with the trunk in front."""
        return {name: Tapped(_Voice(self, n), who=name) for n, name in enumerate(self.names) if n}

    def groups(self) -> list[tuple[nn.Module, nn.Module]]:
        """Trunk and first branch are the student's; each other branch stands for itself."""
        return [(self.student, self.objective), *zip(self.branches, self.objectives, strict=True)]

    def close(self) -> None:
        """Take the second reader's taps off, too."""
        super().close()
        self._reading[0].close()

    def lessons(self) -> list[Lesson]:
        """Each branch from labels and from the ensemble, and that from labels."""
        found = [Lesson("ensemble", ("labels",), self.joint.terms)]
        for name, objective in zip(self.names, (self.objective, *self._objectives()), strict=True):
            found += lessons_of(objective, name, ("ensemble",))
        return found

    def further(self) -> dict[str, nn.Module]:
        """The other branches, and the gated ensemble."""
        return {**self._whole(), "ensemble": Tapped(_Voice(self, None), who="ensemble")}

    def kept(self) -> dict[str, nn.Module]:
        """The other branches, each as a plain network such as the student."""
        found = {}
        for name, branch in zip(self.names[1:], self.branches, strict=True):
            plain = copy.deepcopy(self.student.model)
            plain.load_state_dict({**plain.state_dict(), **branch.state_dict()})
            found[name] = plain
        return found


class _Gate(nn.Module):
    """How much each branch counts for each sample: maps [B, C, H, W] to weights [B, branches], 1 in all."""

    def __init__(self, channels: int, branches: int, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = linear(channels, branches, generator, gain="linear")
        self.norm = nn.BatchNorm1d(branches)

    def forward(self, map: Tensor) -> Tensor:
        scores = self.linear(map.mean((2, 3)))
        if self.training:
            (everyones_scores,) = everyones(scores)
            scores = self.norm(everyones_scores)[place() * len(scores) :][: len(scores)]
        else:
            scores = self.norm(scores)
        return torch.softmax(torch.relu(scores), dim=1)


class _Voice(nn.Module):
    """One branch with the trunk in front, or the ensemble of all (None): input to logits [B, C]."""

    def __init__(self, scheme: One, number: int | None) -> None:
        super().__init__()
        self.scheme = scheme
        self.number = number

    def forward(self, input: Any) -> Tensor:
        said, joined = self.scheme.together_on(input)
        return joined if self.number is None else said[self.number].logits
