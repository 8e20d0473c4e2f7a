"""Flow of the solution procedure: how one layer's channels go with the next layer's.

J. Yim, D. Joo, J. Bae, J. Kim, A Gift from Knowledge Distillation: Fast Optimization, Network Minimization
and Transfer Learning, CVPR 2017,
https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html.

    L = Σ_i mean( (G_s,i − G_t,i)² ),    G_i[c, d] = (1/(H·W)) Σ_places F_i[c] · F_{i+1}[d]

over each two features that follow each other; G is one matrix [C_i, C_{i+1}] for each sample.

Conventions. The mean is over samples and entries of the matrix (the field's; the paper sums over entries).
The flows of several layers add up, all with one weight, as in the paper. Of the two maps of a flow the larger
is average-pooled to the smaller (the paper takes the maximum). Half precision is computed in float32.

Published: weight 50, with what enters the first stage and then the end of every stage, in a stage by itself
that comes first: 30 epochs before the 240 of the CIFAR-100 protocol of Tian et al. 2020
(https://arxiv.org/abs/1910.10699). After it the term is left out, and cross-entropy (or kd) trains alone. The
public code of that protocol takes the sum as it is in the first stage, and sets 50 for the second only, where
the term is left out: what it ran with is a weight of 1.

Beware. Student and teacher need as many channels as each other in every pair: it is for a student that is
less deep, not narrower. Places are averaged out, so the sizes of student and teacher need not agree.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._maps import check_maps, same_size
from limbeck.methods._parts import paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["FlowOfSolution", "flow_of_solution"]


def flow_of_solution(
    student_in: Tensor, student_out: Tensor, teacher_in: Tensor, teacher_out: Tensor
) -> Tensor:
    """Mean squared difference of the two networks' flows between two layers.

    Args:
        student_in: the student's first layer, [B, C, H, W].
        student_out: its second, [B, D, H', W']; the larger map is average-pooled to the smaller.
        teacher_in: the teacher's first, with C channels as well.
        teacher_out: its second, with D channels as well.

    Returns:
        A scalar >= 0, mean over samples and the C · D entries of a flow.

    Raises:
        ValueError: the shapes do not belong together.
    """
    layers = (student_in, student_out, teacher_in, teacher_out)
    check_maps("flow_of_solution", layers)
    _check_widths((student_in, teacher_in), (student_out, teacher_out))
    if len({len(layer) for layer in layers}) > 1:
        raise ValueError(
            "flow_of_solution needs layers of the same samples; "
            f"got {', '.join(str(list(layer.shape)) for layer in layers)}"
        )
    return F.mse_loss(_flow(student_in, student_out), _flow(teacher_in, teacher_out))


def _flow(first: Tensor, second: Tensor) -> Tensor:
    """Products of the channels of two layers, mean over places: [B, C, D]."""
    first, second = (layer.flatten(2) for layer in same_size(widen(first), widen(second)))
    # Autocast would compute the products in half precision.
    with torch.autocast(first.device.type, enabled=False):
        return first @ second.mT / first.shape[2]


def _check_widths(*pairs: tuple[Tensor, Tensor]) -> None:
    for place, (ours, theirs) in enumerate(pairs, 1):
        if ours.shape[1] != theirs.shape[1]:
            raise ValueError(
                "flow_of_solution needs as many channels of the student as of the teacher in every pair; "
                f"pair {place} has {ours.shape[1]} of the student and {theirs.shape[1]} of the teacher. Pair "
                "layers of equal width, take a student as wide as the teacher, or a method with layers that "
                "bring widths together, such as hint"
            )


class FlowOfSolution(Method):
    """The flow between layers that follow each other, as in the teacher (Yim et al. 2017).

    Raises:
        ValueError: in `setup`, fewer than two pairs, features that are no maps, or unequal widths.
    """

    paper = (
        "Yim, Joo, Bae, Kim (2017), A Gift from Knowledge Distillation: Fast Optimization, Network "
        "Minimization and Transfer Learning, "
        "https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html"
    )
    aliases = ("fsp",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    published: ClassVar[Mapping[str, object]] = {"weight": 50.0}
    prefers = "flow"
    stage = "alone"

    def setup(self, probe: Probe) -> None:
        pairs = _layers(probe.student, probe.teacher)
        check_maps("flow_of_solution", [feature for pair in pairs for feature in pair])
        _check_widths(*pairs)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        flows = pairwise(_layers(student, teacher))
        losses = [
            flow_of_solution(ours_in, ours_out, theirs_in, theirs_out)
            for (ours_in, theirs_in), (ours_out, theirs_out) in flows
        ]
        return torch.stack(losses).sum()


def _layers(student: Knowledge, teacher: Knowledge | None) -> list[tuple[Tensor, Tensor]]:
    pairs = paired("flow_of_solution", student, teacher)
    if len(pairs) < 2:
        raise ValueError(
            f"flow_of_solution compares what flows from layer to layer, so it needs two pairs of features or "
            f"more, in their order; got {len(pairs)}"
        )
    return pairs
