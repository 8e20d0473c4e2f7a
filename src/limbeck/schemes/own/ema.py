"""Mean teacher: the student learns from the moving average of its own weights.

A. Tarvainen, H. Valpola, Mean teachers are better role models, NeurIPS 2017,
https://arxiv.org/abs/1703.01780.

    θ' ← d·θ' + (1 − d)·θ    after each step,    d = min(decay, (1 + step) / (10 + step))

The average answers in eval mode, with averaged statistics of its norm layers. The ramp lets it forget the
first, random weights, which it would else teach for a thousand steps. The paper's loss between the two is the
squared error of their softmaxes, on samples without labels too, at a weight that rises over the first epochs;
any term may stand there, those that compare layers included.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._alone import Own
from limbeck.taps import Tapped
from limbeck.teachers.ema import Ema

__all__ = ["MeanTeacher"]


class MeanTeacher(Own):
    """The teacher is the average of the student's weights.

    Args:
        decay: the largest share of the old average that is kept at each step, in [0, 1).
    """

    paper = (
        "Tarvainen, Valpola (2017), Mean teachers are better role models, https://arxiv.org/abs/1703.01780"
    )
    aliases = ("mean_teacher",)
    reads_layers = True
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": 1.0},
        "decay": 0.999,
    }
    who = "the average of its weights"

    def __init__(
        self, student: Tapped, objective: Objective, setting: Setting, *, decay: float = 0.999
    ) -> None:
        super().__init__(student, objective, setting)
        self.teacher = Ema(student, objective.teacher_taps, decay)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """A decay in [0, 1)."""
        decay = options.get("decay", 0.0)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 <= decay < 1:
            raise ValueError(f"decay must be a number from 0 to below 1, given {decay!r}")
