"""Weights that are learned: those under which the weighted answer makes the labels most likely.

Y. Liu, W. Zhang, J. Wang, Adaptive Multi-Teacher Multi-level Knowledge Distillation, Neurocomputing 2020,
https://arxiv.org/abs/2103.04062.

    w(x) = softmax(b + V · softmax(z_s(x)))
    learned by L = −(1/N) Σ_n log Σ_k w_k(x_n) · softmax(z_k(x_n))_y

From the paper: each teacher has a vector of its own (a row of V, and b), its weight for a sample comes from
that vector and what the student makes of the sample, and all is learned beside the student. Not from the
paper: the loss. There the weights minimise the student's own loss of distillation, and so go to the teacher
that is easiest to imitate, which one that knows nothing is; the likelihood of the weighted answer under the
labels is what an ensemble is for, and a proper score. So the student's losses do not move the weights, nor
these the student.

Conventions. Probabilities are taken at temperature 1; the mean is over labelled samples, and without any the
weights stay as they are. They start equal, and are learned by the student's optimiser at its learning rate.
Beware: the labels are those of the training samples, and a teacher that knows these by heart looks better
there than it is.
"""

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch
from limbeck.methods._parts import mean_over_labelled
from limbeck.teachers.weightings.base import Weighting

__all__ = ["Learned", "ensemble_likelihood"]


def ensemble_likelihood(
    teachers: Tensor, weights: Tensor, target: Tensor, labelled: Tensor | None = None
) -> Tensor:
    """Mean negative log-likelihood of the labels under the weighted answer of the teachers.

    Args:
        teachers: logits of K teachers, [B, K, C].
        weights: [B, K]; rows sum to 1.
        target: class indices [B] (−1 where not known), or class shares [B, C].
        labelled: the number of labelled samples to divide by; None counts them.

    Returns:
        A scalar, in nats; zero where no sample is labelled.
    """
    shares = weights.clamp(min=torch.finfo(torch.float32).tiny)  # the slope of log 0 is none
    joint = (teachers.float().log_softmax(2) + shares.log()[..., None]).logsumexp(1)
    if target.ndim == 1:
        chosen = joint.gather(1, target.clamp(min=0)[:, None])[:, 0]
        return mean_over_labelled(-(chosen * (target >= 0)).sum(), target, labelled)
    return mean_over_labelled(-(joint * target.to(joint.dtype)).sum(), target, labelled)


class Learned(Weighting):
    """Weights from a vector for each teacher, learned by the likelihood of the ensemble (Liu et al. 2020)."""

    paper = (
        "Liu, Zhang, Wang (2020), Adaptive Multi-Teacher Multi-level Knowledge Distillation, "
        "https://arxiv.org/abs/2103.04062"
    )

    def setup(self, teachers: int, classes: int) -> None:
        """Start from equal weights; nothing is drawn."""
        self.bias = nn.Parameter(torch.zeros(teachers))
        self.gate = nn.Parameter(torch.zeros(teachers, classes))

    def forward(self, teachers: Tensor, student: Tensor | None, batch: Batch, temperature: float) -> Tensor:
        bias = self.bias.float().expand(teachers.shape[0], -1)
        if student is None:
            return bias.softmax(1)
        return (bias + student.detach().float().softmax(1) @ self.gate.float().T).softmax(1)

    def loss(self, teachers: Tensor, weights: Tensor, batch: Batch) -> Tensor | None:
        """The likelihood's negative logarithm."""
        if batch.target is None:
            return None
        return ensemble_likelihood(teachers, weights, batch.target, batch.labelled)
