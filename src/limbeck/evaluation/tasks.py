"""What a network is worth on each of two tasks, alone and joined: the figures of lifelong learning.

    alone    the answer is the most probable of the task's own classes: somebody says which task an image is
             of. The field calls this task-incremental.
    joint    the answer is the most probable of all classes: nobody does. The field calls this
             class-incremental.

The names are those of van de Ven, Tuytelaars and Tolias 2022, Three types of incremental learning,
https://doi.org/10.1038/s42256-022-00568-3. Alone is never below joint.

`task_accuracy`, the mean of both tasks alone, is what the verdict of such a run is about: the paper measures
it, and the losses train it. Old and new logits never meet in one softmax, so that nothing sets the scale of
one against the other, and joint accuracies depend on it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.data.base import Data
from limbeck.data.tasks import Tasks
from limbeck.errors import InputError
from limbeck.evaluation.figures import Figures
from limbeck.evaluation.statistics import paired_interval

__all__ = ["TASK_FIGURES", "TaskFigures", "accuracies", "by_task"]

HOW = ("alone", "joint")
TASK_FIGURES = ("task_accuracy", "old_alone", "old_joint", "new_alone", "new_joint")
"""The figures that every evaluation of a student has, beside those of all classes together."""


def accuracies(logits: Tensor, labels: Tensor, classes: Sequence[int]) -> tuple[float, float]:
    """Accuracy on the samples of one task, alone and joint.

    Args:
        logits: [N, C].
        labels: class indices [N].
        classes: those of the task.

    Returns:
        Both in [0, 1]; NaN where no sample is of the task.
    """
    own = torch.tensor(classes)
    rows = torch.isin(labels, own)
    answers, wanted = logits[rows], labels[rows]
    alone = int((own[answers[:, own].argmax(1)] == wanted).sum())
    joint = int((answers.argmax(1) == wanted).sum())
    count = len(wanted)
    return (alone / count, joint / count) if count else (float("nan"), float("nan"))


class TaskFigures(Figures):
    """Further figures, and the accuracies on an old and a new task.

    Args:
        wanted: as of `Figures`.
        tasks: which classes are old and which are new.
        beside: the recipe's folder.

    Raises:
        InputError: as `Figures`, or a further figure has the name of one of these.
    """

    def __init__(
        self, wanted: Mapping[str, Mapping[str, Any]], tasks: Tasks, beside: Path | None = None
    ) -> None:
        for name in TASK_FIGURES:
            if name in wanted:
                raise InputError(f"metrics.{name}: lifelong learning has this figure already; leave it out.")
        super().__init__(wanted, len(tasks.old) + len(tasks.new), beside)
        self._tasks = tasks

    @property
    def rising(self) -> dict[str, bool]:
        """Whether more is better, of what can be chosen by: a validation part holds the new task alone."""
        return {**super().rising, "new_alone": True, "new_joint": True}

    def __call__(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The figures of some answers; see `Figures.__call__`."""
        old, new = (accuracies(logits, labels, own) for own in (self._tasks.old, self._tasks.new))
        values = ((old[0] + new[0]) / 2, *old, *new)
        return {**super().__call__(logits, labels), **dict(zip(TASK_FIGURES, values, strict=True))}


def by_task(
    data: Data, teacher: Mapping[str, Any] | None, found: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, Any]:
    """What teacher, control and student are worth on two tasks, for `result.json`.

    Args:
        data: what was learnt.
        teacher: its evaluation on the old task, as JSON.
        found: of `student` and `control`, where there is one, the evaluations by seed, as JSON.

    Returns:
        `tasks`, with `old` and `new`: `classes`, then of `student` and `control` the lists `alone` and
        `joint` by seed, the paired `gain` of each; and for `old` the accuracy of the `teacher`. Empty where
        there are no two tasks.
    """
    if data.tasks is None:
        return {}
    result: dict[str, Any] = {}
    for task, own in (("old", data.tasks.old), ("new", data.tasks.new)):
        sides: dict[str, Any] = {
            role: {how: [one["metrics"][f"{task}_{how}"] for one in found[role]] for how in HOW}
            if found.get(role)
            else None
            for role in ("student", "control")
        }
        control, student = sides["control"], sides["student"]
        gains = {how: _gain(control[how], student[how]) for how in HOW} if control else None
        result[task] = {"classes": [data.classes[number] for number in own], **sides, "gain": gains}
    result["old"]["teacher"] = None if teacher is None else teacher["accuracy"]
    return {"tasks": result}


def _gain(before: Sequence[float | None], after: Sequence[float | None]) -> dict[str, object] | None:
    """The paired gain of a figure; None where one is missing, as without test samples with a label."""
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None]
    if len(pairs) < len(before):
        return None
    return paired_interval([a for a, _ in pairs], [b for _, b in pairs]).to_json()
