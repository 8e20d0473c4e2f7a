"""Semantic calibration: each of the student's layers learns from the teacher's layers that mean the same.

D. Chen, J.-P. Mei, Y. Zhang, C. Wang, Z. Wang, Y. Feng, C. Chen, Cross-Layer Distillation with Semantic
Calibration, AAAI 2021, https://arxiv.org/abs/2012.03236.

    L = (1/B) Σ_n (1/S) Σ_s Σ_t α_nst · mean( (r_st(F_s) − F_t)² )
    α_nst = softmax over t of  q_ns · k_nt

for every pair of one of the student's S layers with one of the teacher's T, whichever way they were written
down as pairs. The projections r_st (1×1, 3×3 and 1×1 convolutions, of twice the teacher's channels inside,
with BatchNorm and ReLU between) and the layers behind the queries q and keys k are learned.

Conventions. The inner mean is over the elements of a sample. The larger of two maps is average-pooled to the
smaller, the student's before its projection. Queries and keys are of length 1, as the authors' are.

Another query and key. The paper computes them from each layer's matrix of similarities of the samples of a
batch, a row of B numbers for each sample, by a network whose input is B wide. That ties its layers to one
batch size, and to which samples happen to stand where in the batch. Here the network (linear, ReLU, linear)
takes the sample's own feature, averaged over its places, as Ji et al. 2021 do
(https://arxiv.org/abs/2102.02973): any batch will do, and a sample's attention depends on that sample alone.
So the published weight is that of a loss of the same form and size, not of exactly this one.

Published: weight 400 beside 1 · cross-entropy and 1 · kd (T = 4) on CIFAR-100, the last map of every stage.

Beware. S · T projections with 3×3 convolutions can cost more than a small student does. BatchNorm in them
makes the loss depend on the batch as a whole, so a batch in parts or on several processes gives another loss
than in one. Half precision: the layers follow autocast, the difference is computed in float32.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._layers import conv, linear
from limbeck.methods._maps import check_maps, shrink
from limbeck.methods._parts import check_count, check_set_up, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["SemanticCalibration", "semantic_calibration"]


def semantic_calibration(
    projected: Sequence[Sequence[Tensor]], teacher: Sequence[Tensor], queries: Tensor, keys: Tensor
) -> Tensor:
    """Mean squared differences of all pairs of layers, weighted by attention.

    Args:
        projected: `projected[s][t]` is the student's layer s, brought to the width of the teacher's layer t,
            [B, C_t, H, W] with H and W those of the smaller of both.
        teacher: the teacher's layers, [B, C_t, H_t, W_t]; average-pooled where they are larger.
        queries: [B, S, D], one for each of the student's layers; made of length 1 here.
        keys: [B, T, D], one for each of the teacher's.

    Returns:
        A scalar >= 0, mean over samples and the student's layers.

    Raises:
        ValueError: the shapes do not belong together.
    """
    batch = len(teacher[0]) if teacher else 0
    if queries.shape[:2] != (batch, len(projected)) or keys.shape[:2] != (batch, len(teacher)):
        raise ValueError(
            f"semantic_calibration needs queries [B, S, D] and keys [B, T, D] of {len(projected)} layers of "
            f"the student and {len(teacher)} of the teacher; got {list(queries.shape)} and {list(keys.shape)}"
        )
    differences = torch.stack(
        [
            torch.stack([_difference(ours, theirs) for ours, theirs in zip(row, teacher, strict=True)], 1)
            for row in projected
        ],
        1,
    )
    queries, keys = (F.normalize(widen(v), dim=2, eps=1e-6) for v in (queries, keys))
    # Autocast would compute the products in half precision.
    with torch.autocast(queries.device.type, enabled=False):
        attention = (queries @ keys.mT).softmax(2)
    return (attention * differences).sum(2).mean()


def _difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of each sample, [B]."""
    student, teacher = widen(student), widen(teacher)
    teacher = shrink(teacher, student.shape[2:])
    if student.shape != teacher.shape:
        raise ValueError(
            "semantic_calibration needs maps of one shape after its projection; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )
    return (student - teacher).square().flatten(1).mean(1)


class SemanticCalibration(Method):
    """Every student layer imitates all teacher layers, weighted by learned attention (Chen et al. 2021).

    Args:
        dimension: width of queries and keys.

    Raises:
        ValueError: an option is out of range; in `setup`, features that are no maps.
    """

    paper = (
        "Chen, Mei, Zhang, Wang, Wang, Feng, Chen (2021), Cross-Layer Distillation with Semantic "
        "Calibration, https://arxiv.org/abs/2012.03236"
    )
    aliases = ("semckd",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 400.0}
    prefers = "stages"

    def __init__(self, dimension: int = 128) -> None:
        super().__init__()
        self.dimension = check_count("dimension", dimension)
        self.queries = nn.ModuleList()
        self.keys = nn.ModuleList()
        self.projections = nn.ModuleList()

    def setup(self, probe: Probe) -> None:
        student, teacher = zip(*paired("semantic_calibration", probe.student, probe.teacher), strict=True)
        check_maps("semantic_calibration", (*student, *teacher))
        generator = probe.generator
        self.queries = nn.ModuleList(self._glance(f, generator) for f in student)
        self.keys = nn.ModuleList(self._glance(f, generator) for f in teacher)
        self.projections = nn.ModuleList(
            _projection(ours, theirs, generator) for ours in student for theirs in teacher
        )

    def _glance(self, feature: Tensor, generator: torch.Generator) -> nn.Module:
        """From a feature averaged over its places to a query or key."""
        width = 2 * self.dimension
        return nn.Sequential(
            linear(feature.shape[1], width, generator),
            nn.ReLU(),
            linear(width, self.dimension, generator, gain="linear"),
        ).to(device=feature.device, dtype=widen(feature).dtype)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("semantic_calibration", student, teacher)
        check_set_up("semantic_calibration", len(self.queries), len(pairs))
        ours, theirs = [widen(a) for a, _ in pairs], [widen(b) for _, b in pairs]
        queries, keys = (
            torch.stack([glance(f.mean((2, 3))) for glance, f in zip(glances, features, strict=True)], 1)
            for glances, features in ((self.queries, ours), (self.keys, theirs))
        )
        projected = [
            [self.projections[s * len(pairs) + t](shrink(f, goal.shape[2:])) for t, goal in enumerate(theirs)]
            for s, f in enumerate(ours)
        ]
        return semantic_calibration(projected, theirs, queries, keys)


def _projection(ours: Tensor, theirs: Tensor, generator: torch.Generator) -> nn.Module:
    """From a student's map to a teacher's width."""
    width = theirs.shape[1]
    return nn.Sequential(
        conv(ours.shape[1], 2 * width, 1, generator),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        conv(2 * width, 2 * width, 3, generator),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        conv(2 * width, width, 1, generator),
    ).to(device=ours.device, dtype=widen(ours).dtype)
