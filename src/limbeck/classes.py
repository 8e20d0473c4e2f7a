"""Which of a teacher's logits stand for the data's classes: `teacher.classes` of a recipe."""

from typing import Any

import torch

from limbeck.data import Data
from limbeck.errors import InputError

__all__ = ["teacher_classes"]


def teacher_classes(chosen: Any, shape: torch.Size, data: Data) -> list[int] | None:
    """Which of the teacher's logits stand for the data's classes.

    Args:
        chosen: `teacher.classes` of the recipe: None, `auto`, or names and indices in the data's order.
        shape: of the teacher's answer, [samples, classes].
        data: what the classes are called.

    Returns:
        An index for each of the data's classes; None where the teacher has just these.

    Raises:
        InputError: the counts differ, or a name or an index fits no class, or several.
    """
    if len(shape) != 2:
        raise InputError(f"teacher: must answer logits [samples, classes]; it answers {list(shape)}.")
    width, wanted = int(shape[1]), len(data.classes)
    if chosen is None or (chosen == "auto" and width == wanted):
        if width == wanted:
            return None
        raise InputError(
            f"teacher.classes: the teacher answers {width} classes and the data have {wanted}. Say which of "
            "the teacher's stand for the data's: teacher.classes: auto (by name), or a list of indices."
        )
    if chosen == "auto":
        chosen = [n if i == n else i for n, i in zip(data.classes, data.identifiers, strict=True)]
    names: dict[str, list[int]] | None = None
    indices = []
    for item in chosen:
        if isinstance(item, str):
            names = _imagenet_names(width) if names is None else names
            if item.lower() not in names:
                raise InputError(
                    f'teacher.classes: the teacher has no class "{item}" among its {width} names; '
                    "give its index."
                )
            item = _only(item, names[item.lower()])
        if not 0 <= item < width:
            raise InputError(
                f"teacher.classes: index {item} is out of range; the teacher has {width} classes."
            )
        indices.append(int(item))
    if len(indices) != wanted:
        raise InputError(
            f"teacher.classes: {len(indices)} are named and the data have {wanted}: "
            f"{', '.join(data.classes[:20])}."
        )
    return indices


def _only(name: str, found: list[int]) -> int:
    """The one class of ImageNet with this name: several have the name of another, and none may be guessed."""
    if len(found) > 1:
        from timm.data import ImageNetInfo

        told = ", ".join(f"{index} ({ImageNetInfo().index_to_description(index)})" for index in found)
        raise InputError(
            f'teacher.classes: "{name}" is the name of {len(found)} classes of ImageNet: {told}; '
            "give its index."
        )
    return found[0]


def _imagenet_names(width: int) -> dict[str, list[int]]:
    """Names and wnids of ImageNet's classes, with the places at which pretrained networks answer them."""
    if width != 1000:
        raise InputError(
            f"teacher.classes: the names of a teacher's {width} classes are not known (only ImageNet's 1000 "
            "are); give indices."
        )
    from timm.data import ImageNetInfo

    info = ImageNetInfo()
    names: dict[str, list[int]] = {}
    for index in range(1000):
        words = str(info.index_to_description(index)).split(",")
        for name in {w.strip().lower() for w in (str(info.index_to_label_name(index)), *words)}:
            names.setdefault(name, []).append(index)
    return names
