"""Small things that several methods share: checks of options and shapes, precision, and counting labels."""

import math
from numbers import Real

import torch
from torch import Tensor

from limbeck.knowledge import UNLABELLED, Batch, Knowledge

__all__ = [
    "check_choice",
    "check_count",
    "check_indexed",
    "check_logits",
    "check_number",
    "check_set_up",
    "check_switch",
    "flat",
    "labels_of",
    "mean_over_labelled",
    "paired",
    "taught",
    "widen",
]


def check_number(
    name: str,
    value: object,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
) -> float:
    """An option as a finite float within its range.

    Args:
        name: the option, for the message.
        value: what was given.
        above: the value must be greater than this.
        least: the value must be at least this.
        below: the value must be less than this.

    Raises:
        ValueError: not a number (booleans are none), not finite, or out of range.
    """
    limits = [("> ", above), (">= ", least), ("< ", below)]
    allowed = " and ".join(f"{sign}{limit:g}" for sign, limit in limits if limit is not None)
    message = f"{name} must be a finite number{' ' if allowed else ''}{allowed}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ValueError(message)
    number = float(value)
    if (
        (above is not None and number <= above)
        or (least is not None and number < least)
        or (below is not None and number >= below)
    ):
        raise ValueError(message)
    return number


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """An option as a whole number of at least `least`.

    Raises:
        ValueError: not a whole number (booleans are none), or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
    return value


def check_set_up(method: str, ready: int, found: int) -> None:
    """Refuse another number of pairs of features than a method has built its layers for.

    Raises:
        ValueError: the numbers differ, or it has built none.
    """
    if found != ready or not ready:
        raise ValueError(f"{method} was set up for {ready} pairs of features; got {found}")


def check_switch(name: str, value: object) -> bool:
    """An option that is on or off.

    Raises:
        ValueError: neither True nor False.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return value


def check_choice(name: str, value: object, allowed: tuple[str, ...]) -> str:
    """An option that is one of a few words.

    Raises:
        ValueError: another word.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def check_logits(method: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse logits that cannot be compared.

    Raises:
        ValueError: the logits are not both [B, C] with the same B and C.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise ValueError(
            f"{method} needs student and teacher logits of one shape [samples, classes]; "
            f"got {list(student.shape)} and {list(teacher.shape)}"
        )


def check_indexed(method: str, student: Tensor, teacher: Tensor, target: Tensor) -> None:
    """Refuse logits that cannot be compared with each other, or with class indices.

    Raises:
        ValueError: the logits are not both [B, C] with C >= 2, or the indices not [B].
    """
    check_logits(method, student, teacher)
    if target.shape != student.shape[:1] or student.shape[1] < 2:
        raise ValueError(
            f"{method} needs at least 2 classes and class indices [samples]; "
            f"got logits {list(student.shape)} and targets {list(target.shape)}"
        )


def labels_of(method: str, batch: Batch) -> Tensor:
    """The labels of a batch.

    Raises:
        ValueError: it carries none.
    """
    if batch.target is None:
        raise ValueError(f"{method} needs labels, and the batch carries none")
    return batch.target


def widen(value: Tensor) -> Tensor:
    """Half precision as float32: logarithms and sums of squares lose too much in 8 or 11 bits."""
    return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value


def paired(method: str, student: Knowledge, teacher: Knowledge | None) -> list[tuple[Tensor, Tensor]]:
    """The pairs of features that a method compares, the teacher's as constants.

    Raises:
        ValueError: there is no teacher, no feature, or not one of the teacher's for each of the student's.
    """
    theirs = taught(method, teacher).features
    if not student.features or len(student.features) != len(theirs):
        raise ValueError(
            f"{method} compares features in pairs, at least one; "
            f"got {len(student.features)} of the student and {len(theirs)} of the teacher"
        )
    return list(zip(student.features, theirs, strict=True))


def flat(method: str, feature: Tensor) -> Tensor:
    """A feature [B, ...] as one row for each sample, [B, D], in at least single precision.

    Raises:
        ValueError: the feature has no axis beside that of the samples.
    """
    if feature.ndim < 2:
        raise ValueError(f"{method} needs features [samples, ...], got {list(feature.shape)}")
    return widen(feature).flatten(1)


def taught(method: str, teacher: Knowledge | None) -> Knowledge:
    """The teacher's answer as a constant: a method gives the student a gradient, and nobody else.

    Raises:
        ValueError: there is no teacher.
    """
    if teacher is None:
        raise ValueError(f"{method} needs a teacher, and there is none")
    # A frozen teacher's answer is a constant already.
    known = not teacher.logits.requires_grad and not any(f.requires_grad for f in teacher.features)
    return teacher if known else teacher.detach()


def mean_over_labelled(total: Tensor, target: Tensor, labelled: Tensor | None) -> Tensor:
    """A sum over the labelled samples, divided by their number; zero where there are none.

    Nothing here asks the host for a number, so that the loss compiles in one graph.

    Args:
        total: the sum, a scalar, to which unlabelled samples gave nothing.
        target: class indices [B] (`UNLABELLED` where not known), or class shares [B, C], all zero where
            not known.
        labelled: the divisor, above 0, when the trainer knows it better (see `Batch.labelled`). It may be
            below 1: a share of the labels of a batch that was cut in parts.
    """
    if labelled is None:
        if target.ndim == 1:
            return total / (target != UNLABELLED).sum().clamp(min=1)
        # The mass of the shares: what is mixed with a sample of unknown class counts by its own share.
        return total / target.sum().clamp(min=1e-12).to(total.dtype)
    return total / labelled
