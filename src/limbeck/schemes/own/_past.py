"""What the kinds share whose teacher is the student of some time ago."""

from typing import Any

import torch
from torch import Tensor

from limbeck.knowledge import Batch
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._alone import Own
from limbeck.taps import Tapped
from limbeck.teachers.copied import Copied

__all__ = ["Past"]


class Past(Own):
    """The teacher is a copy of the student as it was at the end of the last of several equal turns.

    In the first turn there is none, and the student learns from labels alone.

    Args:
        student, objective, setting: as of `Own`.
        turns: into how many turns the epochs are divided, at least 1.
    """

    teacher: Copied

    def __init__(self, student: Tapped, objective: Objective, setting: Setting, turns: int) -> None:
        super().__init__(student, objective, setting)
        self.teacher = Copied(student, objective.teacher_taps)
        self.turn = 0
        self._length = setting.epochs / max(1, turns)

    def before_step(self, epoch: float) -> None:
        """Take the copy where a turn has ended."""
        super().before_step(epoch)
        # The last bit of a quotient must not put a turn off by a step.
        turn = int(epoch / self._length + 1e-9) if self._length else 0
        if turn > self.turn:
            self.turn = turn
            self.teacher.take(self.student.model)

    def teach(self, batch: Batch) -> Any:
        """The copy's answer; None in the first turn."""
        return super().teach(batch) if self.turn else None

    def teacher_state(self) -> dict[str, Tensor]:
        return {**super().teacher_state(), "turn": torch.tensor(self.turn)}

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        super().load_teacher_state(state)
        self.turn = int(state["turn"])
