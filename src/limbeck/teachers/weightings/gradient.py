"""Weights by which the student's step helps every teacher's loss (AE-KD).

S. Du, S. You, X. Li, J. Wu, F. Wang, C. Qian, C. Zhang, Agree to Disagree: Adaptive Ensemble Knowledge
Distillation in Gradient Space, NeurIPS 2020,
https://proceedings.neurips.cc/paper/2020/hash/91c77393975889bd08f301c9e13a44b7-Abstract.html.

    w = argmin ½ ‖ Σ_k w_k g_k ‖²,    Σ w = 1,    0 ≤ w_k ≤ 1/(νK)
    g_k = ∂L_k/∂z_s = T · (softmax(z_s/T) − softmax(z_k/T)), over the whole batch

Conventions. One w for the whole batch, as the losses are the batch's; of several processes, that of the
batch of all of them; of a batch computed in parts, one for each part. The gradients are those of T² KL at
the student's logits. Without a student's answer all teachers weigh the same. How the minimum is found:
`min_norm`.

ν in (0, 1] is the tolerance: 1 is the plain average, and with ν ≤ 1/K one teacher may have all the weight.
The default of 0.5 is this library's. Beware: the shortest step is that of the teachers that the student is
nearest to, right or wrong. A student that knows nothing yet is nearest to the teacher that says least.
"""

import torch
from torch import Tensor

from limbeck.knowledge import Batch
from limbeck.methods._gather import everyones
from limbeck.methods._parts import check_number
from limbeck.teachers.weightings.base import Weighting, even
from limbeck.teachers.weightings.min_norm import min_norm

__all__ = ["Gradient", "gradient_weights"]


def gradient_weights(
    teachers: Tensor, student: Tensor, *, temperature: float = 4.0, tolerance: float = 0.5
) -> Tensor:
    """Weights of the shortest mean of the teachers' gradients at the student's logits.

    Args:
        teachers: logits of K teachers, [B, K, C].
        student: its logits, [B, C].
        temperature: T > 0.
        tolerance: ν in (0, 1].

    Returns:
        [B, K], float32; all rows are the same, and sum to 1.
    """
    count = teachers.shape[1]
    mine = (student.detach().float() / temperature).softmax(1)
    theirs = (teachers.detach().float() / temperature).softmax(2)
    slopes = (mine[:, None] - theirs).transpose(0, 1).flatten(1).double()  # T alone would change nothing
    # Each process's inner products, added up.
    (products,) = everyones((slopes @ slopes.T)[None])
    weights = min_norm(products.sum(0), 1 / (tolerance * count))
    return weights.to(teachers.device, torch.float32).expand(teachers.shape[0], -1)


class Gradient(Weighting):
    """Weights of the min-norm point of the teachers' gradients (Du et al. 2020).

    Args:
        tolerance: ν in (0, 1]: no weight is above 1/(νK).

    Raises:
        ValueError: it is out of range.
    """

    paper = (
        "Du, You, Li, Wu, Wang, Qian, Zhang (2020), Agree to Disagree: Adaptive Ensemble Knowledge "
        "Distillation in Gradient Space, "
        "https://proceedings.neurips.cc/paper/2020/hash/91c77393975889bd08f301c9e13a44b7-Abstract.html"
    )
    most = 6

    def __init__(self, tolerance: float = 0.5) -> None:
        super().__init__()
        self.tolerance = check_number("tolerance", tolerance, above=0)
        if self.tolerance > 1:
            raise ValueError(f"tolerance must be a number in (0, 1], got {tolerance!r}")

    def forward(self, teachers: Tensor, student: Tensor | None, batch: Batch, temperature: float) -> Tensor:
        if student is None:
            return even(teachers)
        return gradient_weights(teachers, student, temperature=temperature, tolerance=self.tolerance)
