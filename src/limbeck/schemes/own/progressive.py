"""Progressive self-knowledge distillation: labels are softened by what the network said an epoch ago.

K. Kim, B. Ji, D. Yoon, S. Hwang, Self-Knowledge Distillation with Progressive Refinement of Targets, ICCV
2021, https://arxiv.org/abs/2006.12000.

    L_t = CE( z_t(x), (1 − α_t)·y + α_t·p_{t−1}(x) ),        α_t = α_E · t / E

A cross-entropy with such a target is (1 − α_t)·CE(z, y) + α_t·KL(p_{t−1} ‖ p_t) but for a constant, so the
objective says it: `cross_entropy` falls from 1 to 1 − α_E, and `kd` at temperature 1 rises from 0 to α_E,
over the E epochs of the training (`epochs` of both ramps). Published: α_E = .8, E = 300. The weights change
with every step, by the epochs done; in the first epoch the student learns from labels alone.

p_{t−1} is here the answer of the network as it was at the end of the epoch before, to the very view, mix or
repeat that the student sees. The authors' code keeps the answers that were given during the last epoch. Those
cost no pass, but belong to other views, lack what an epoch left out, and are N × C numbers in every saved
state (5 GB on ImageNet); the copy costs one more pass without gradient.
"""

from collections.abc import Mapping
from typing import ClassVar

from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.own._past import Past
from limbeck.taps import Tapped

__all__ = ["Progressive"]


class Progressive(Past):
    """The teacher is the student as it was an epoch ago."""

    paper = (
        "Kim, Ji, Yoon, Hwang (2021), Self-Knowledge Distillation with Progressive Refinement of Targets, "
        "ICCV, https://arxiv.org/abs/2006.12000"
    )
    aliases = ("ps_kd",)
    reads_layers = True
    published: ClassVar[Mapping[str, object]] = {
        "objective": {
            "cross_entropy": {"weight": {"start": 1.0, "end": 0.2, "epochs": 300}},
            "kd": {"weight": {"start": 0.0, "end": 0.8, "epochs": 300}, "temperature": 1.0},
        }
    }
    who = "itself an epoch ago"

    def __init__(self, student: Tapped, objective: Objective, setting: Setting) -> None:
        super().__init__(student, objective, setting, setting.epochs)
