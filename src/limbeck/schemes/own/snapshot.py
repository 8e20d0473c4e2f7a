"""Snapshot distillation: the student as it was at the end of each cycle teaches it through the next.

C. Yang, L. Xie, C. Su, A. L. Yuille, Snapshot Distillation: Teacher-Student Optimization in One Generation,
CVPR 2019, https://arxiv.org/abs/1812.00123.

The epochs are divided into equal cycles. The first learns from labels; each of the others from labels and
from the copy that was taken when the last one ended. For teacher and student to differ enough the learning
rate starts anew with each cycle: `train: {schedule: {name: cosine, cycles: 4}}`, of as many cycles as here. A
warm-up or cool-down moves these ends, which are then not quite those of the scheme.

The paper softens the teacher's side alone; `kd` softens both, and multiplies by T². Its T is 2.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from limbeck.methods._parts import check_count
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._past import Past
from limbeck.taps import Tapped

__all__ = ["Snapshot"]


class Snapshot(Past):
    """The teacher is the student as it was at the end of the last cycle.

    Args:
        cycles: how many cycles the epochs are divided into, at least 2.
    """

    paper = (
        "Yang, Xie, Su, Yuille (2019), Snapshot Distillation: Teacher-Student Optimization in One "
        "Generation, CVPR, https://arxiv.org/abs/1812.00123"
    )
    aliases = ("snapshot_distillation",)
    reads_layers = True
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 2.0}},
        "cycles": 4,
        "schedule": {"name": "cosine", "cycles": 4},
    }
    who = "itself at the end of the last cycle"

    def __init__(self, student: Tapped, objective: Objective, setting: Setting, *, cycles: int = 4) -> None:
        if 0 < setting.epochs < cycles:
            raise ValueError(
                f"cycles must be at most the epochs of the training, {setting.epochs}, given {cycles}"
            )
        super().__init__(student, objective, setting, cycles)

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """At least 2 cycles."""
        check_count("cycles", options.get("cycles", 2), least=2)
