"""Fixed weights: the plain average, or numbers.

Ensembles of teachers were distilled so from the beginning: G. Hinton, O. Vinyals, J. Dean, Distilling the
Knowledge in a Neural Network, 2015, https://arxiv.org/abs/1503.02531; S. You, C. Xu, C. Xu, D. Tao, Learning
from Multiple Teacher Networks, KDD 2017, https://doi.org/10.1145/3097983.3098135.

    w_k = v_k / Σ_j v_j,    v = (1, …, 1) where none are given
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.knowledge import Batch
from limbeck.methods._parts import check_number
from limbeck.teachers.weightings.base import Weighting

__all__ = ["Average"]


class Average(Weighting):
    """The same weights for every sample.

    Args:
        weights: one for each teacher, in their order, at least 0; None: all the same.

    Raises:
        ValueError: a number is out of range, or all of them are 0.
    """

    paper = (
        "You, Xu, Xu, Tao (2017), Learning from Multiple Teacher Networks, "
        "https://doi.org/10.1145/3097983.3098135"
    )
    shares: Tensor

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not isinstance(weights, list | tuple | None):
            raise ValueError(f"weights must be a list of one number for each teacher, got {weights!r}")
        self.weights = None if weights is None else [check_number("weights", w, least=0) for w in weights]
        if self.weights is not None and not any(self.weights):
            raise ValueError("weights must not all be 0")

    def setup(self, teachers: int, classes: int) -> None:
        """See that there is a number for each teacher."""
        given = [1.0] * teachers if self.weights is None else self.weights
        if len(given) != teachers:
            raise ValueError(f"weights must be one for each of {teachers} teachers, got {len(given)}")
        # Not part of the state: the recipe says what they are.
        self.register_buffer("shares", torch.tensor(given) / sum(given), persistent=False)

    def forward(self, teachers: Tensor, student: Tensor | None, batch: Batch, temperature: float) -> Tensor:
        return self.shares.expand(teachers.shape[0], -1)
