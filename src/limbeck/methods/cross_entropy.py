"""Cross-entropy with the labels; label smoothing and class weights on request.

    L = −(1/N) Σ_n Σ_c w_c · q_nc · log softmax(z_n)_c,    q = (1 − ε)·y + ε/C

Label smoothing: C. Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016,
https://arxiv.org/abs/1512.00567 (there ε = 0.1; the smoothing mass goes to all C classes, the true one too).

Conventions. The mean is over labelled samples: an unlabelled one (class index −1, or shares that are all
zero) adds neither loss nor count, and a batch without any label gives zero. Half precision is computed in
float32. With class weights the sum is still divided by the number of labelled samples, not by their weights,
so that parts of a batch add up to the batch; weights with a mean of 1 over the samples, as the balanced ones
have, keep the scale of the loss.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.methods._parts import check_number, labels_of, mean_over_labelled, widen
from limbeck.methods.base import Method, Probe

__all__ = ["CrossEntropy", "cross_entropy"]


def cross_entropy(
    student_logits: Tensor,
    target: Tensor,
    *,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
    labelled: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy over the labelled samples.

    Args:
        student_logits: [B, C].
        target: class indices [B] (int64, −1 where not known), or class shares [B, C] of mixed samples (rows
            sum to 1; a row of zeros is not known).
        label_smoothing: the share ε in [0, 1) that is spread evenly over all classes.
        class_weights: w, [C]; None: 1 for each.
        labelled: the number of labelled samples to divide by, a scalar; None counts them.

    Returns:
        A scalar; zero where no sample is labelled.

    Raises:
        ValueError: the shapes do not belong together.
    """
    logits = widen(student_logits)
    if logits.ndim != 2 or target.shape not in (logits.shape[:1], logits.shape):
        raise ValueError(
            "cross_entropy needs logits [samples, classes] and class indices [samples] or class shares "
            f"[samples, classes]; got logits {list(logits.shape)} and targets {list(target.shape)}"
        )
    if class_weights is not None and class_weights.shape != logits.shape[1:]:
        raise ValueError(
            f"cross_entropy: class_weights must hold one weight for each of {logits.shape[1]} classes; "
            f"got {list(class_weights.shape)}"
        )
    if target.ndim == 1:
        total = F.cross_entropy(
            logits,
            target,
            None if class_weights is None else class_weights.to(logits.dtype),
            ignore_index=UNLABELLED,
            label_smoothing=label_smoothing,
            reduction="sum",
        )
    else:
        shares = target.to(logits.dtype)
        # The smoothing is scaled by the row's mass, so that a row of zeros stays without effect.
        even = shares.sum(1, keepdim=True) / logits.shape[1]
        smoothed = shares + label_smoothing * (even - shares)
        if class_weights is not None:
            smoothed = smoothed * class_weights.to(logits.dtype)
        total = -(smoothed * F.log_softmax(logits, dim=1)).sum()
    return mean_over_labelled(total, target, labelled)


class CrossEntropy(Method):
    """Cross-entropy with the labels: what the control learns from as well.

    Args:
        label_smoothing: share in [0, 1) that is spread evenly over all classes.
        class_weights: one for each class, at least 0; `balanced`: such that every class of the training
            samples weighs the same in all, N/(C·N_c), which has the mean 1 over the samples.

    Raises:
        ValueError: a value is out of range.
    """

    paper = (
        "Szegedy, Vanhoucke, Ioffe, Shlens, Wojna (2016), Rethinking the Inception Architecture for Computer "
        "Vision (label smoothing), https://arxiv.org/abs/1512.00567"
    )
    aliases = ("ce",)
    kind: ClassVar[Literal["label"]] = "label"
    published: ClassVar[Mapping[str, object]] = {"weight": 0.1, "label_smoothing": 0.0}
    weights: Tensor | None

    def __init__(
        self, label_smoothing: float = 0.0, class_weights: str | Sequence[float] | None = None
    ) -> None:
        super().__init__()
        self.label_smoothing = check_number("label_smoothing", label_smoothing, least=0, below=1)
        self.balanced = class_weights == "balanced"
        given = None if class_weights is None or self.balanced else _weights(class_weights)
        # Not part of the state: the recipe and the data say what they are.
        self.register_buffer("weights", given, persistent=False)

    def setup(self, probe: Probe) -> None:
        """Weigh the classes by their samples, where that is asked for; see the number of classes."""
        device = probe.student.logits.device
        if self.balanced:
            self.weights = _balanced(probe.targets, probe.classes).to(device)
        elif self.weights is not None and len(self.weights) != probe.classes:
            raise ValueError(
                f"cross_entropy: class_weights must hold one weight for each of {probe.classes} classes; "
                f"got {len(self.weights)}"
            )

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return cross_entropy(
            student.logits,
            labels_of("cross_entropy", batch),
            label_smoothing=self.label_smoothing,
            class_weights=self.weights,
            labelled=batch.labelled,
        )


def _weights(given: object) -> Tensor:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ValueError(f"class_weights must be balanced, or a list of one number a class; got {given!r}")
    found = [check_number("class_weights", weight, least=0) for weight in given]
    if not found or not any(found):
        raise ValueError("class_weights must hold one number a class, not all of them 0")
    return torch.tensor(found)


def _balanced(targets: Tensor | None, classes: int) -> Tensor:
    if targets is None:
        raise ValueError(
            "cross_entropy: class_weights: balanced needs the label of every training sample, which are not "
            "known here; give one number a class"
        )
    counts = targets[targets != UNLABELLED].bincount(minlength=classes).float()
    # A class without samples has no say; it would be divided by zero.
    return torch.where(counts > 0, counts.sum() / (int((counts > 0).sum()) * counts.clamp(min=1)), 1.0)
