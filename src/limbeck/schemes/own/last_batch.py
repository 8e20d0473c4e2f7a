"""Self-distillation from the last mini-batch: each step repeats the last one, and follows what was said then.

Y. Shen, L. Xu, Y. Yang, Y. Li, Y. Guo, Self-Distillation from the Last Mini-Batch for Consistency
Regularization, CVPR 2022, https://arxiv.org/abs/2203.16172.

    L = CE(z, y) over both halves + λ·T²·KL( p_before(x) ‖ p(x) ) over the half that repeats

Half of what a step sees is the batch of the step before, and the target there is what the network said then,
softened. Published: T = 3, λ = 1. Here the batches of the recipe come as ever, and each step sees the last
one beside its own: twice `data.batch_size` samples, as the paper's sampler sees each sample in two steps. The
very views of the step before are seen again. The first step of all has nothing to repeat, and learns from
labels.

Kept are the numbers of the last batch's samples and the answers to them, of all processes and all parts of a
step.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.methods._gather import everyones, place
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._samples import Taking
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking

__all__ = ["LastBatch"]

Repeated = tuple[Batch, Tensor]
"""The batch that is seen again, and the logits of then, [B, C]."""


class LastBatch(Taking):
    """The teacher is its own answer in the step before."""

    paper = (
        "Shen, Xu, Yang, Li, Guo (2022), Self-Distillation from the Last Mini-Batch for Consistency "
        "Regularization, CVPR, https://arxiv.org/abs/2203.16172"
    )
    aliases = ("dlb",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 3.0}}
    }
    who = "its answers in the step before"
    said: Tensor
    saying: Tensor

    def __init__(self, student: Tapped, objective: Objective, setting: Setting) -> None:
        super().__init__(student, objective, setting)
        if self.alone is None:
            raise InputError(
                "objective: the half of a step that is new has no teacher and learns from labels; add a term "
                "of labels, such as cross_entropy."
            )
        kept = [n for n in objective.terms if objective.method(n).kind == "label"]
        self.labels = _part(setting.objective(), kept)
        self.following = _part(setting.objective(), [n for n in objective.terms if n not in kept])
        # Of the last step: numbers and views [S, 2] on the CPU, logits [S, C]; and of the step that runs.
        self._seen = torch.zeros(0, 2, dtype=torch.int64)
        self._seeing: list[Tensor] = []
        self.register_buffer("said", torch.zeros(0, setting.classes), persistent=False)
        self.register_buffer("saying", torch.zeros(0, setting.classes), persistent=False)

    def teach(self, batch: Batch) -> tuple[Repeated | None, Tensor]:
        """This process's part of the last batch, and the rows of `saying` that this batch's answers take."""
        index, view = self.numbers(batch)
        (now,) = everyones(torch.from_numpy(np.stack([index, view], 1)).to(self.said.device))
        first, size = sum(map(len, self._seeing)), len(batch)
        rows = torch.arange(first, first + len(now), device=self.said.device)
        self._seeing.append(now.cpu())
        if len(self.saying) < first + len(now):  # in the first step, part by part
            grown = self.saying.new_zeros(first + len(now), self.saying.shape[1])
            grown[:first] = self.saying[:first]
            self.saying = grown
        if len(self._seen) < first + len(now):
            return None, rows
        mine = slice(first + place() * size, first + (place() + 1) * size)
        index, view = self._seen[mine].T.numpy()
        # The share of the labels of the whole step that such a part has, as the trainer counts them.
        labels = (self._samples.targets[self._seen[:, 0]] != UNLABELLED).sum() * (size / len(self._seen))
        before = self.taken(index, view, self._seed)
        before = replace(before, labelled=labels.clamp(min=1e-12).to(self.said.device))
        return (before, self.said[mine]), rows

    def forward(self, batch: Batch, teaching: tuple[Repeated | None, Tensor]) -> dict[str, Tensor]:
        repeated, rows = teaching
        if repeated is None:
            said: Knowledge = self.student(batch.input)
            self._note(said.logits, rows)
            return self.learnt(said, None, batch)
        before, answers = repeated
        whole = _joined(before, batch)
        said = self.student(whole.input)
        self._note(said.logits[len(answers) :], rows)
        learnt: dict[str, Tensor] = self.labels(said, None, whole)
        again = Knowledge(said.logits[: len(answers)])
        followed: dict[str, Tensor] = self.following(again, Knowledge(answers), before)
        return {**learnt, **followed, "loss": learnt["loss"] + followed["loss"]}

    def _note(self, logits: Tensor, rows: Tensor) -> None:
        """Keep the answers to this batch for the next step."""
        (everyone,) = everyones(logits.detach())
        self.saying[rows] = everyone.to(self.saying.dtype)

    def before_step(self, epoch: float) -> None:
        """Set the weights that change with time; forget a step that was tried and not taken."""
        super().before_step(epoch)
        self.labels.before_step(epoch)
        self.following.before_step(epoch)
        self._seeing = []

    def after_step(self) -> None:
        """What was seen now is the last batch."""
        super().after_step()
        self._seen, self._seeing = torch.cat(self._seeing), []
        if self.said.shape == self.saying.shape:
            self.said.copy_(self.saying)  # in place: a compiled step knows where it lies
        else:
            self.said = self.saying.clone()

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """The student, with all that it learns by."""
        source = Speaking(self.student)
        return [
            *super().learners(),
            *((self.student, part, source) for part in (self.labels, self.following)),
        ]

    def teacher_state(self) -> dict[str, Tensor]:
        return {"seen": self._seen, "said": self.said}

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        self._seen = state["seen"].cpu()
        self.said = state["said"].to(self.said)
        self.saying = self.said.clone()


def _part(objective: Objective, names: list[str]) -> Objective:
    """Some of the terms of an objective, with its weights."""
    return Objective({name: objective.terms[name] for name in names})


def _joined(one: Batch, other: Batch) -> Batch:
    """Two batches of labelled samples as one."""
    assert isinstance(one.input, Tensor)
    assert isinstance(other.input, Tensor)
    assert one.target is not None
    assert other.target is not None
    count = (other.target != UNLABELLED).sum() if other.labelled is None else other.labelled
    return Batch(
        torch.cat([one.input, other.input]),
        torch.cat([one.target, other.target]),
        labelled=None if one.labelled is None else one.labelled + count,
    )
