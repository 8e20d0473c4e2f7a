"""Activation boundaries: the student's neurons are active where the teacher's are.

B. Heo, M. Lee, S. Yun, J. Y. Choi, Knowledge Transfer via Distillation of Activation Boundaries Formed by
Hidden Neurons, AAAI 2019, https://arxiv.org/abs/1811.03233.

    L = Σ_i 2^(i−n) · (1/B) Σ ( [t > 0] · max(0, μ − r_i(s))² + [t ≤ 0] · max(0, μ + r_i(s))² )

for the pairs i = 1 … n, first to last; the inner sum is over samples, channels and places, of what s and t
hold before their ReLU. Whether a neuron of the teacher is active counts, how strongly does not. The margin μ
pushes the student's neuron well to that side. The connector r_i, a 1×1 convolution without bias and a
BatchNorm, is learned along with the student and thrown away after; there is none where both sides have as
many channels as each other.

Conventions. A sum over elements, divided by the batch only. The last pair counts whole, each before it half
of the one behind. Where two maps differ in size, the larger is average-pooled to the smaller, before the
connector. Half precision: the connector follows autocast, the loss is computed in float32.

Published: weight 0.003 (the authors divide the sum by 1000 and take three times that), maps before the ReLU
at the end of every stage, in a stage by itself that comes first: 30 epochs before the 240 of the CIFAR-100
protocol of Tian et al. 2020 (https://arxiv.org/abs/1910.10699). After it the term is left out, and
cross-entropy (or kd) trains alone.

Beware. Features behind a ReLU are never negative: give it those before. The loss grows with the number of
neurons, so the weight depends on the networks. The BatchNorm makes the loss depend on the batch as a whole,
so a batch in parts or on several processes gives another loss than in one.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import aligned
from limbeck.methods._maps import check_maps, check_one_shape, same_size
from limbeck.methods._parts import check_number, check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["ActivationBoundary", "activation_boundary"]


def activation_boundary(student: Tensor, teacher: Tensor, *, margin: float = 1.0) -> Tensor:
    """Squared hinge loss of the student's pre-activations at the signs of the teacher's.

    Args:
        student: [B, C, H, W] before the ReLU, already of the teacher's width.
        teacher: the same; H and W may differ: the larger map is average-pooled to the smaller.
        margin: how far on the teacher's side is far enough, > 0.

    Returns:
        A scalar >= 0: the sum over all elements, divided by B.

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_maps("activation_boundary", (student, teacher))
    student, teacher = same_size(widen(student), widen(teacher))
    check_one_shape("activation_boundary", student, teacher)
    missing = F.relu(margin + torch.where(teacher > 0, -student, student))
    return missing.square().sum() / len(student)


class ActivationBoundary(Method):
    """Which neurons are active, as in the teacher (Heo et al. 2019).

    Args:
        margin: how far on the teacher's side is far enough, > 0.

    Raises:
        ValueError: `margin` is out of range; in `setup`, features that are no maps.
    """

    paper = (
        "Heo, Lee, Yun, Choi (2019), Knowledge Transfer via Distillation of Activation Boundaries Formed by "
        "Hidden Neurons, https://arxiv.org/abs/1811.03233"
    )
    aliases = ("ab", "abound")
    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 0.003}
    prefers = "before_relu"
    stage = "alone"

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = check_number("margin", margin, above=0)
        self.connectors = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        pairs = paired("activation_boundary", probe.student, probe.teacher)
        check_maps("activation_boundary", [feature for pair in pairs for feature in pair])
        self.connectors = nn.ModuleList(aligned(*pair, probe.generator, normalize=True) for pair in pairs)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("activation_boundary", student, teacher)
        check_set_up("activation_boundary", len(self.connectors), len(pairs))
        losses = []
        for level, (connector, pair) in enumerate(zip(self.connectors, pairs, strict=True), 1):
            ours, theirs = same_size(*map(widen, pair))
            loss = activation_boundary(connector(ours), theirs, margin=self.margin)
            losses.append(2.0 ** (level - len(pairs)) * loss)
        return torch.stack(losses).sum()
