"""Relational knowledge distillation, angles: three of the student's samples span the teacher's angle.

W. Park, D. Kim, Y. Lu, M. Cho, Relational Knowledge Distillation, CVPR 2019, https://arxiv.org/abs/1904.05068.

    L = (1/B³) Σ_i Σ_j Σ_k h( cos_s(j, i, k) − cos_t(j, i, k) )
    cos(j, i, k) = e_ij · e_ik,    e_ij = (x_j − x_i) / |x_j − x_i|

for the angle at the anchor i, with h the Huber loss: x²/2 up to |x| = 1, |x| − 1/2 beyond.

Conventions. The mean is over all B³ triples, those with equal samples included. Where two samples are equal
there is no direction between them: it counts as the zero vector, whose cosines are 0, and gets no gradient.
Several pairs of features add up. Rows of all processes are compared. Half precision is computed in float32.

Memory. All angles at once would be B³ numbers, and several times so for the gradient. Here a few anchors at a
time are worked off, loss and gradient in one pass: with U_i the slopes h′ of anchor i, [B, B] and symmetric,
the gradient of its directions E_i is 2 · U_i E_i. What stays until back-propagation is that gradient summed
over anchors, [B, D]. So there is no second derivative.

Published: weight 50, together with 25 · `relational_distance`, beside 1 · cross-entropy, on the features
before the classifier; `relational` is both as one term.

Beware. The loss depends on which samples are in a batch together: parts of a batch see fewer triples. The
time still grows with B³.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_count, paired
from limbeck.methods._relations import LEAST, rows, unscaled
from limbeck.methods.base import Method

__all__ = ["RelationalAngle", "relational_angle"]


def relational_angle(student: Tensor, teacher: Tensor, *, anchors: int | None = None) -> Tensor:
    """Huber loss between the cosines of the angles of all triples of samples.

    Args:
        student: [B, ...]; anything beyond the first axis is flattened.
        teacher: [B, ...], of any width.
        anchors: how many anchors are worked off at a time; None chooses what suits the device. It changes
            memory and time, not the loss.

    Returns:
        A scalar >= 0, mean over all B³ triples.

    Raises:
        ValueError: the two do not hold the same samples, or `anchors` is no count.
    """
    ours, theirs = rows("relational_angle", student, teacher)
    if anchors is None:
        # A block that stays in a processor's cache; a GPU wants more at once, and has the memory.
        room = 2**18 if ours.device.type == "cpu" else 2**21
        widest = max(len(ours), ours.shape[1], theirs.shape[1])
        anchors = min(len(ours), max(1, room // (len(ours) * widest)))
    wanted = [x.requires_grad and torch.is_grad_enabled() for x in (ours, theirs)]
    loss: Tensor = _angles(unscaled(ours), unscaled(theirs), check_count("anchors", anchors), *wanted)[0]
    return loss


# Opaque to the compiler: unrolled, the loop over the blocks would be a graph of thousands of operations.
@torch.library.custom_op("limbeck::relational_angle", mutates_args=())
def _angles(
    student: Tensor, teacher: Tensor, anchors: int, student_learns: bool, teacher_learns: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and its gradients by student and teacher, [B, D] each, or empty where nobody asks."""
    total = student.new_zeros(())
    gradients = [
        torch.zeros_like(x) if learns else x.new_empty(0)
        for x, learns in ((student, student_learns), (teacher, teacher_learns))
    ]
    triples = len(student) ** 3
    with torch.autocast(student.device.type, enabled=False):
        for first in range(0, len(student), anchors):
            block = slice(first, first + anchors)
            (ours, our_length), (theirs, their_length) = (_spokes(x, block) for x in (student, teacher))
            gap = torch.bmm(theirs, theirs.mT).baddbmm_(ours, ours.mT, beta=-1)
            slope = gap.clamp(-1, 1)
            # Both branches of Huber at once: slope · gap − slope² / 2.
            total += torch.dot(slope.flatten(), gap.sub_(slope, alpha=0.5).flatten())
            if student_learns:
                _pull(gradients[0], slope, ours, our_length, block, 2 / triples)
            if teacher_learns:
                _pull(gradients[1], slope, theirs, their_length, block, -2 / triples)
    return total / triples, gradients[0], gradients[1]


def _spokes(x: Tensor, block: slice) -> tuple[Tensor, Tensor]:
    """From a block of K anchors to all samples: directions [K, B, D], and 1 / length [K, B, 1] or 0."""
    spokes = x[None] - x[block, None]
    length = torch.linalg.vector_norm(spokes, dim=2, keepdim=True)
    inverse = torch.where(length > LEAST, length.reciprocal(), 0.0)
    return spokes.mul_(inverse), inverse


def _pull(
    gradient: Tensor, slope: Tensor, spokes: Tensor, inverse: Tensor, block: slice, factor: float
) -> None:
    """Add a block's gradient: what its directions would be turned by, drawn at both ends of each spoke."""
    turn = torch.bmm(slope, spokes)
    along = torch.linalg.vecdot(turn, spokes)[..., None]
    # Only what is at right angles to a direction turns it.
    turn.addcmul_(spokes, along, value=-1).mul_(inverse)
    gradient.add_(turn.sum(0), alpha=factor)
    gradient[block].sub_(turn.sum(1), alpha=factor)


@_angles.register_fake
def _shapes(
    student: Tensor, teacher: Tensor, anchors: int, student_learns: bool, teacher_learns: bool
) -> tuple[Tensor, Tensor, Tensor]:
    ours, theirs = (
        torch.empty_like(x) if learns else x.new_empty(0)
        for x, learns in ((student, student_learns), (teacher, teacher_learns))
    )
    return student.new_empty(()), ours, theirs


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.learns = inputs[3:]
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    ours, theirs = (
        gradient * loss if learns else None
        for gradient, learns in zip(ctx.saved_tensors, ctx.learns, strict=True)
    )
    return ours, theirs, None, None, None


_angles.register_autograd(_backward, setup_context=_keep)


class RelationalAngle(Method):
    """Angles between the samples of a batch, as the teacher has them (Park et al. 2019)."""

    paper = "Park, Kim, Lu, Cho (2019), Relational Knowledge Distillation, https://arxiv.org/abs/1904.05068"
    aliases = ("rkd_a",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["many"]] = "many"
    minimum = 0.0
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {"weight": 50.0}
    prefers = "embedding"

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pairs = paired("relational_angle", student, teacher)
        return torch.stack([relational_angle(*everyones(*pair)) for pair in pairs]).sum()
