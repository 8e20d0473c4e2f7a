"""SuperGradients' losses: modules that compute what theirs do, and what they come to as terms of a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from limbeck.compat.super_gradients.keys import Gone, none_left, warn
from limbeck.errors import InputError
from limbeck.functional import cross_entropy, kd

__all__ = [
    "ChannelWiseKnowledgeDistillationLoss",
    "KDLogitsLoss",
    "KDOutput",
    "KDklDivLoss",
    "LabelSmoothingCrossEntropyLoss",
    "SegKDLoss",
    "objective",
]

Terms = dict[str, dict[str, Any]]

_SMOOTHING_GONE = {
    "from_logits": Gone("networks answer logits here.", (True,)),
    "ignore_index": Gone("a sample without a label has the target -1 here.", (-100,)),
    "reduction": Gone("is always the mean.", ("mean",)),
    "smooth_dist": Gone("is not supported; smooth_eps spreads over all classes evenly."),
}


def _share(value: object, *, below: bool = False) -> bool:
    """Whether a value is a number from 0 to 1, or below 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value < 1 if below else 0 <= value <= 1


@dataclass(frozen=True, slots=True)
class KDOutput:
    """What both networks say: logits [B, C] of the student and of the teacher."""

    student_output: Tensor
    teacher_output: Tensor


class LabelSmoothingCrossEntropyLoss(nn.Module):
    """Cross-entropy with class indices [B] or shares [B, C], smoothed on request; the mean over the batch.

    Args:
        weight: one weight a class; the mean is over samples, not over their weights.
        smooth_eps: share in [0, 1) that is spread over all classes; None: not smoothed.

    Raises:
        InputError: `smooth_eps` or `weight` is out of range, or another argument asks for what is not here.
    """

    def __init__(
        self,
        weight: Sequence[float] | Tensor | None = None,
        smooth_eps: float | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        none_left(others, "LabelSmoothingCrossEntropyLoss", ("weight", "smooth_eps"), _SMOOTHING_GONE)
        if smooth_eps is not None and not _share(smooth_eps, below=True):
            raise InputError(
                f"LabelSmoothingCrossEntropyLoss: smooth_eps must be in [0, 1), given {smooth_eps!r}."
            )
        self.smooth_eps = 0.0 if smooth_eps is None else float(smooth_eps)
        try:
            self.weight = None if weight is None else [float(value) for value in weight]
        except (TypeError, ValueError) as error:
            raise InputError(
                "LabelSmoothingCrossEntropyLoss: weight must be a list with one number a class, given "
                f"{weight!r}."
            ) from error

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of logits [B, C], a scalar."""
        weights = None if self.weight is None else torch.tensor(self.weight, device=input.device)
        loss: Tensor = cross_entropy(input, target, label_smoothing=self.smooth_eps, class_weights=weights)
        return loss


class KDklDivLoss(nn.Module):
    """KL(softmax of the teacher || softmax of the student), the mean over the batch; no temperature."""

    def forward(self, student_output: Tensor, teacher_output: Tensor) -> Tensor:
        """The loss of logits [B, C] each, a scalar."""
        loss: Tensor = kd(student_logits=student_output, teacher_logits=teacher_output, temperature=1.0)
        return loss


class KDLogitsLoss(nn.Module):
    """(1 - a)·task + a·distillation.

    Args:
        task_loss_fn: the loss of the labels.
        distillation_loss_fn: that between the networks; None: `KDklDivLoss`.
        distillation_loss_coeff: a, in [0, 1].

    Raises:
        InputError: `distillation_loss_coeff` is out of range.
    """

    def __init__(
        self,
        task_loss_fn: nn.Module,
        distillation_loss_fn: nn.Module | None = None,
        distillation_loss_coeff: float = 0.5,
        **others: Any,
    ) -> None:
        super().__init__()
        taken = ("task_loss_fn", "distillation_loss_fn", "distillation_loss_coeff")
        none_left(others, "KDLogitsLoss", taken)
        if not _share(distillation_loss_coeff):
            raise InputError(
                "KDLogitsLoss: distillation_loss_coeff must be a number from 0 to 1, given "
                f"{distillation_loss_coeff!r}."
            )
        for name, loss in (("task_loss_fn", task_loss_fn), ("distillation_loss_fn", distillation_loss_fn)):
            if loss is not None and not isinstance(loss, nn.Module):
                raise InputError(f"KDLogitsLoss: {name} must be a loss as an object, given {_kind(loss)}.")
        self.task_loss_fn = task_loss_fn
        self.distillation_loss_fn = KDklDivLoss() if distillation_loss_fn is None else distillation_loss_fn
        self.distillation_loss_coeff = float(distillation_loss_coeff)

    @property
    def component_names(self) -> list[str]:
        """What the parts that `forward` reports are called."""
        return ["Loss", "Task Loss", "Distillation Loss"]

    def forward(self, kd_module_output: KDOutput, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, a scalar; and loss, task loss and distillation loss without a graph, [3]."""
        task = self.task_loss_fn(kd_module_output.student_output, target)
        apart = self.distillation_loss_fn(kd_module_output.student_output, kd_module_output.teacher_output)
        loss = (1 - self.distillation_loss_coeff) * task + self.distillation_loss_coeff * apart
        return loss, torch.stack([loss, task, apart]).detach()


def objective(loss: object) -> Terms:
    """The terms of a recipe that a loss comes to.

    Raises:
        InputError: the loss has no counterpart here.
    """
    if not isinstance(loss, KDLogitsLoss):
        raise InputError(
            f"train_params.loss: must be KDLogitsLoss, given {_kind(loss)}. For a loss of your own use "
            "limbeck's objective with a method of your own (package.module:Class)."
        )
    if not isinstance(loss.distillation_loss_fn, KDklDivLoss):
        raise InputError(
            f"KDLogitsLoss: distillation_loss_fn {_kind(loss.distillation_loss_fn)} has no counterpart; "
            "KDklDivLoss has, and limbeck's recipes have all other methods by name."
        )
    share = loss.distillation_loss_coeff
    terms: Terms = {"cross_entropy": {"weight": round(1 - share, 12), **_task(loss.task_loss_fn)}}
    terms["kd"] = {"weight": share, "temperature": 1.0}
    return {name: term for name, term in terms.items() if term["weight"] > 0}


def _task(loss: nn.Module) -> dict[str, Any]:
    """The options of cross-entropy that a loss of labels comes to."""
    found: dict[str, Any] = {}
    if isinstance(loss, LabelSmoothingCrossEntropyLoss):
        smoothing, weights = loss.smooth_eps, loss.weight
    elif isinstance(loss, nn.CrossEntropyLoss):
        if loss.reduction != "mean":
            raise InputError(
                f'KDLogitsLoss: task_loss_fn must have reduction "mean", given {loss.reduction}.'
            )
        if loss.ignore_index != -100:
            raise InputError(
                "KDLogitsLoss: task_loss_fn must leave ignore_index as it is, given "
                f"{loss.ignore_index}; a sample without a label has the target -1 here."
            )
        smoothing, weights = loss.label_smoothing, None if loss.weight is None else loss.weight.tolist()
    else:
        raise InputError(
            "KDLogitsLoss: task_loss_fn must be LabelSmoothingCrossEntropyLoss or torch.nn.CrossEntropyLoss, "
            f"given {_kind(loss)}."
        )
    if smoothing:
        found["label_smoothing"] = smoothing
    if weights is not None:
        warn("KDLogitsLoss: with class weights the mean is over the samples here, not over their weights.")
        found["class_weights"] = weights
    return found


def _kind(value: object) -> str:
    return value.__name__ if isinstance(value, type) else type(value).__name__


def _segmentation(name: str, instead: str) -> NoReturn:
    raise InputError(f"{name}: distils networks for segmentation, which is not supported; {instead}")


class ChannelWiseKnowledgeDistillationLoss(nn.Module):
    """Not here: it raises `InputError`, which says what is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        _segmentation(
            "ChannelWiseKnowledgeDistillationLoss",
            "for classifiers the method channel_wise (cwd) compares maps in the same way.",
        )


class SegKDLoss(nn.Module):
    """Not here: it raises `InputError`, which says what is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        _segmentation("SegKDLoss", "for classifiers use KDLogitsLoss.")
