"""Instance relationship graphs: answers as vertices, distances as edges, and how both change with depth.

Y. Liu, J. Cao, B. Li, C. Yuan, W. Hu, Y. Li, Y. Duan, Knowledge Distillation via Instance Relationship Graph,
CVPR 2019,
https://openaccess.thecvf.com/content_CVPR_2019/html/Liu_Knowledge_Distillation_via_Instance_Relationship_Graph_CVPR_2019_paper.html.

    L = λ_v · mean( (z_s − z_t)² )
      + λ_e · mean over layers of  mean( (A_s^l − A_t^l)² )
      + λ_t · mean over steps of  [ mean( (V_s^l − V_t^l)² ) + mean( (E_s^l − E_t^l)² ) ]

    A^l(i, j) = |x_i^l − x_j^l|² / max    edges of layer l, [B, B]
    V^l(i)    = |x_i^l − x_i^{l+1}|² / max    how far a sample moves in a step from a layer to the next, [B]
    E^l(i, j) = ( A^l(i, j) − A^{l+1}(i, j) )²    how an edge changes in it, [B, B]

Each `max` is the largest value in the batch, so that the networks' scales do not matter; z are the logits.

Conventions. Means are over all entries, over layers and over steps: more layers do not weigh more. The layers
are the method's pairs, in the order in which they are given: from the input to the output. One layer makes no
step, and the third part is 0. To subtract a layer from the next one, the larger of two maps is average-pooled
to the smaller's places, and the wider to the smaller's width by averaging adjacent channels; where not both
are maps, places and tokens are averaged first. That way of matching, the division by the largest value, and
V and E with equal weight are choices of this library where we could not follow the paper to the letter. Rows
of all processes are compared. Half precision is computed in float32.

Published: the weights 0.1, 5 and 5 are those of public re-implementations for CIFAR, beside
1 · cross-entropy, whose third part has V alone; the paper's may differ. The layers are the last map of each
stage.

Beware. The logits' part is not bounded and rules early in training. The loss depends on which samples are in
a batch together.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_logits, check_number, paired, taught, widen
from limbeck.methods._relations import LEAST, rows, unscaled
from limbeck.methods.base import Method

__all__ = ["InstanceGraph", "instance_graph"]


def instance_graph(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    *,
    vertices: float = 0.1,
    edges: float = 5.0,
    transitions: float = 5.0,
) -> Tensor:
    """Weighted squared differences of vertices, edges and transitions of two networks' graphs.

    Args:
        student_logits: [B, C].
        teacher_logits: [B, C].
        student: the student's layers from input to output, each [B, ...], at least one.
        teacher: the teacher's, as many; their shapes are free.
        vertices: weight of the logits' part.
        edges: weight of the distances' part.
        transitions: weight of the part that compares how samples and distances change between layers.

    Returns:
        A scalar >= 0 for weights >= 0.

    Raises:
        ValueError: the shapes do not belong together.
    """
    check_logits("instance_graph", student_logits, teacher_logits)
    if not student or len(student) != len(teacher):
        raise ValueError(
            "instance_graph needs as many layers of the student as of the teacher, at least one; "
            f"got {len(student)} and {len(teacher)}"
        )
    pairs = [rows("instance_graph", a, b) for a, b in zip(student, teacher, strict=True)]
    if any(len(a) != len(student_logits) for a, _ in pairs):
        raise ValueError(
            f"instance_graph needs logits and layers of the same samples; got {len(student_logits)} samples "
            f"in the logits and layers {[list(f.shape) for f in student]}"
        )
    loss = vertices * F.mse_loss(widen(student_logits), widen(teacher_logits))
    ours, theirs = ([_edges(x) for x in layers] for layers in zip(*pairs, strict=True))
    loss = loss + edges * _difference(ours, theirs)
    if len(student) > 1:
        moved = _difference(_moves(student), _moves(teacher))
        loss = loss + transitions * (moved + _difference(_changes(ours), _changes(theirs)))
    return loss


def _edges(x: Tensor) -> Tensor:
    """Squared distances of all pairs of rows, [B, B], the largest 1."""
    x = unscaled(x)
    # What all samples share is no distance, and would cost the small ones their digits.
    x = x - x.mean(0)
    with torch.autocast(x.device.type, enabled=False):
        product = x @ x.mT
    squares = product.diagonal()
    far = (squares[:, None] + squares - 2 * product).clamp(min=0)
    far = far.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)
    return far / far.amax().clamp(min=LEAST)


def _changes(edges: Sequence[Tensor]) -> list[Tensor]:
    return [(a - b).square() for a, b in pairwise(edges)]


def _moves(layers: Sequence[Tensor]) -> list[Tensor]:
    """Squared distance of each sample from one layer to the next, [B], the largest 1."""
    moves = []
    for layer, following in pairwise(layers):
        one, other = _alike(widen(layer), widen(following))
        # One scale for both: their difference is what counts.
        scale = torch.maximum(one.detach().abs().amax(), other.detach().abs().amax()).clamp(min=1e-30)
        far = (one / scale - other / scale).square().flatten(1).sum(1)
        moves.append(far / far.amax().clamp(min=LEAST))
    return moves


def _alike(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Two layers with the same places and width, [B, places, width]."""
    if one.ndim == other.ndim == 4:
        size = (min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3]))
        one, other = (F.adaptive_avg_pool2d(x, size).flatten(2).mT for x in (one, other))
    else:
        one, other = (_averaged(x) for x in (one, other))
    width = min(one.shape[2], other.shape[2])
    return F.adaptive_avg_pool1d(one, width), F.adaptive_avg_pool1d(other, width)


def _averaged(x: Tensor) -> Tensor:
    """Maps [B, C, H, W] and tokens [B, L, D] as one vector for each sample, [B, 1, width]."""
    return (
        x.mean((2, 3))[:, None] if x.ndim == 4 else x.reshape(len(x), -1, x.shape[-1]).mean(1, keepdim=True)
    )


def _difference(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """Mean squared difference, mean over the list."""
    return torch.stack([F.mse_loss(a, b) for a, b in zip(ours, theirs, strict=True)]).mean()


class InstanceGraph(Method):
    """Graphs of the samples of a batch in every layer, as the teacher has them (Liu et al. 2019).

    Args:
        vertices: weight >= 0 of the logits' part.
        edges: weight >= 0 of the distances' part.
        transitions: weight >= 0 of the part that compares how samples and distances change between layers.

    Raises:
        ValueError: an option is out of range.
    """

    paper = (
        "Liu, Cao, Li, Yuan, Hu, Li, Duan (2019), Knowledge Distillation via Instance Relationship Graph, "
        "https://openaccess.thecvf.com/content_CVPR_2019/html/"
        "Liu_Knowledge_Distillation_via_Instance_Relationship_Graph_CVPR_2019_paper.html"
    )
    aliases = ("irg",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {
        "weight": 1.0,
        "vertices": 0.1,
        "edges": 5.0,
        "transitions": 5.0,
    }
    prefers = "stages"

    def __init__(self, vertices: float = 0.1, edges: float = 5.0, transitions: float = 5.0) -> None:
        super().__init__()
        self.vertices = check_number("vertices", vertices, least=0)
        self.edges = check_number("edges", edges, least=0)
        self.transitions = check_number("transitions", transitions, least=0)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        ours, theirs = zip(*paired("instance_graph", student, teacher), strict=True)
        logits = everyones(student.logits, taught("instance_graph", teacher).logits)
        return instance_graph(
            logits[0],
            logits[1],
            everyones(*ours),
            everyones(*theirs),
            vertices=self.vertices,
            edges=self.edges,
            transitions=self.transitions,
        )
