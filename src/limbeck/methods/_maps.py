"""What methods that compare maps [B, C, H, W] share: one size for both, and a sentence for what is no map."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from limbeck.methods._parts import widen

__all__ = ["check_maps", "check_one_shape", "check_same_samples", "mean_squares", "same_size", "shrink"]


def check_maps(method: str, features: Sequence[Tensor]) -> None:
    """Refuse features that are no maps.

    Raises:
        ValueError: one of them is not [B, C, H, W]; the message says what turns it into one.
    """
    for feature in features:
        if feature.ndim != 4:
            advice = "; a tap's :map makes a map of tokens" if feature.ndim == 3 else ""
            raise ValueError(f"{method} needs maps [B, C, H, W]; got {list(feature.shape)}{advice}")


def check_one_shape(method: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse two features that do not have one shape.

    Raises:
        ValueError: their shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"{method} needs features of one shape; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )


def check_same_samples(method: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse two maps that do not belong to the same samples.

    Raises:
        ValueError: they have other numbers of samples.
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"{method} needs maps of the same samples; "
            f"got student {list(student.shape)} and teacher {list(teacher.shape)}"
        )


def mean_squares(method: str, student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference over all elements of two features; the larger of two maps is pooled first.

    Raises:
        ValueError: they have other shapes than that.
    """
    student, teacher = same_size(widen(student), widen(teacher))
    check_one_shape(method, student, teacher)
    return F.mse_loss(student, teacher)


def shrink(feature: Tensor, size: Sequence[int]) -> Tensor:
    """A map, average-pooled to a size [H, W] where it is larger; never enlarged."""
    goal = (min(feature.shape[2], size[0]), min(feature.shape[3], size[1]))
    return feature if feature.shape[2:] == goal else F.adaptive_avg_pool2d(feature, goal)


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps to the smaller; anything else is left alone."""
    if student.ndim != 4 or teacher.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    return shrink(student, teacher.shape[2:]), shrink(teacher, student.shape[2:])
