"""Teachers that know the label of a sample weigh more for it (CA-MKD).

H. Zhang, D. Chen, C. Wang, Confidence-Aware Multi-Teacher Knowledge Distillation, ICASSP 2022,
https://arxiv.org/abs/2201.00007.

    w_k = (1 − exp(CE_k) / Σ_j exp(CE_j)) / (K − 1),    CE_k = −log softmax(z_k)_y

Conventions. CE is taken at temperature 1, sample by sample. A mixed sample has the cross-entropy with its
shares. Where no label is known all teachers weigh the same. No weight is above 1/(K − 1): of three teachers,
two that know the label get about a half each, and none gets more. The paper weighs the terms of layers by
another rule, from what the student's features give in each teacher's classifier; here the terms of layers
have the weights that the recipe gives them.
"""

import torch
from torch import Tensor

from limbeck.knowledge import Batch
from limbeck.teachers.weightings.base import Weighting, cross_entropies, even

__all__ = ["Confidence", "confidence_weights"]


def confidence_weights(teachers: Tensor, target: Tensor) -> Tensor:
    """Weights by each teacher's cross-entropy with the labels.

    Args:
        teachers: logits of K > 1 teachers, [B, K, C].
        target: class indices [B] (−1 where not known), or class shares [B, C].

    Returns:
        [B, K], float32; rows sum to 1.
    """
    entropies, known = cross_entropies(teachers, target)
    weights = (1 - entropies.softmax(1)) / (teachers.shape[1] - 1)
    return torch.where(known[:, None], weights, even(teachers))


class Confidence(Weighting):
    """Weights by each teacher's cross-entropy with the label of the sample (Zhang, Chen and Wang 2022)."""

    paper = (
        "Zhang, Chen, Wang (2022), Confidence-Aware Multi-Teacher Knowledge Distillation, "
        "https://arxiv.org/abs/2201.00007"
    )

    def forward(self, teachers: Tensor, student: Tensor | None, batch: Batch, temperature: float) -> Tensor:
        return even(teachers) if batch.target is None else confidence_weights(teachers, batch.target)
