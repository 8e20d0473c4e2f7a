"""Codistillation: each peer learns from copies of the others that are some steps old.

R. Anil, G. Pereyra, A. Passos, R. Ormandi, G. E. Dahl, G. E. Hinton, Large scale distributed neural network
training through online distillation, ICLR 2018, https://arxiv.org/abs/1804.03235.

    L_k = CE(z_k, y) + KL( 1/(K−1) Σ_{l≠k} softmax(z'_l) ‖ softmax(z_k) )

with z'_l of the copy of peer l, in eval mode. All copies are renewed after `burn_in` steps, and then every
`exchange` steps; until the first exchange each peer learns from labels alone, at a total weight of 1.
Without a burn-in the first exchange comes after `exchange` steps: random first weights are never taught.

Published: an exchange every 50 steps, and on ImageNet, at 16 384 samples a step, a burn-in of 3000 steps. A
burn-in as long as the training would teach nothing, so none is the default here.

The paper's peers lie on machines of their own, and only their copies travel. Here all peers train in each
process, on their share of the batch: the same result with one process and with several.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_count
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.online._peers import Peers, mean_answer
from limbeck.schemes.online._state import joined, parted
from limbeck.schemes.taught import by_labels
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker
from limbeck.teachers.copied import Copied

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Codistillation"]


class Codistillation(Peers):
    """Each peer hears the mean of old copies of the others.

    Args:
        exchange: steps between two renewals of the copies.
        burn_in: steps before the first one; 0 for as many as `exchange`.
    """

    paper = (
        "Anil, Pereyra, Passos, Ormandi, Dahl, Hinton (2018), Large scale distributed neural network "
        "training through online distillation, ICLR, https://arxiv.org/abs/1804.03235"
    )
    aliases = ("stale_copies",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 1.0}},
        "exchange": 50,
        "burn_in": 3000,
    }

    def __init__(
        self,
        student: Tapped,
        objective: Objective,
        setting: Setting,
        *,
        exchange: int = 50,
        burn_in: int = 0,
    ) -> None:
        labels = objective.label_terms()
        if not labels:
            raise InputError(
                "objective: until the first exchange of codistillation each peer learns from labels alone; "
                "add a term of labels, such as cross_entropy."
            )
        super().__init__(student, objective, setting)
        self.exchange = exchange
        self.first = burn_in or exchange
        self.alone = nn.ModuleList(
            Objective(one.label_terms()) for one in (self.objective, *self._objectives())
        )
        self._copies = [Copied(peer, []) for peer in (self.student, *self._tapped())]
        self._steps = 0

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """Every peer, also with what it learns by alone."""
        learners = super().learners()
        alone = [one for one in self.alone if isinstance(one, Objective)]
        return [*learners, *((peer, own, who) for (peer, _, who), own in zip(learners, alone, strict=True))]

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """Whole numbers of steps."""
        check_count("exchange", options.get("exchange", 50))
        check_count("burn_in", options.get("burn_in", 0), least=0)

    def teach(self, batch: Batch) -> Any:
        """What the copies say; None: there has been no exchange yet."""
        if self._steps < self.first or not self.objective.listens:
            return None
        return [copy(batch) for copy in self._copies]

    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """The mean of the others' copies."""
        if teaching is None:
            return [()] * len(said), {}
        logits = [one.logits for one in teaching]
        others = [[z for m, z in enumerate(logits) if m != n] for n in range(len(logits))]
        return [(Knowledge(mean_answer(heard)),) for heard in others], {}

    def lesson(
        self, number: int, said: Knowledge, heard: Sequence[Knowledge], batch: Batch
    ) -> dict[str, Tensor]:
        """By labels alone where nobody is heard yet; the other terms count as 0."""
        if heard:
            return super().lesson(number, said, heard, batch)
        return by_labels(self.alone[number], said, batch, self.objective)

    def place(self, runtime: "Runtime") -> None:
        super().place(runtime)
        for copy in self._copies:
            copy.place(runtime)

    def cautions(self, steps: int) -> list[str]:
        """That nobody is ever heard."""
        if steps == 0 or self.first < steps:
            return []
        return [
            f"scheme: the first exchange of codistillation comes after {self.first} steps, and the training "
            f"has {steps}, so the peers teach each other nothing; give a smaller exchange or burn_in"
        ]

    def after_step(self) -> None:
        self._steps += 1
        if self._steps < self.first or (self._steps - self.first) % self.exchange:
            return
        for copy, peer in zip(self._copies, (self.student, *self._tapped()), strict=True):
            copy.take(peer.model)

    def teacher_state(self) -> dict[str, Tensor]:
        states = {name: copy.state() for name, copy in zip(self.names, self._copies, strict=True)}
        return {**joined(states), "steps": torch.tensor(self._steps)}

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        self._steps = int(state["steps"])
        for name, copy in zip(self.names, self._copies, strict=True):
            copy.load_state(parted(state, name))
