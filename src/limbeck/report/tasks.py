"""An old task and a new one on the page of a run: what was learnt, and what was forgotten."""

from collections.abc import Mapping
from typing import Any

from limbeck.report import words
from limbeck.report.record import Record
from limbeck.report.render import Table
from limbeck.report.values import listing, mapping, mean, number, values

__all__ = ["facts", "notes", "sentence", "table"]

FIGURES = (("old", "alone"), ("old", "joint"), ("new", "alone"), ("new", "joint"))


def table(record: Record) -> Table:
    """Both tasks of teacher, control and student, and the gain in each; empty where there are no tasks."""
    if not record.tasks:
        return Table(("",), ())
    teacher = words.score(_teacher(record), "accuracy")
    rows: list[tuple[str, ...]] = [
        (
            f"{task.capitalize()} task, {how}",
            teacher if (task, how) == ("old", "alone") else "",
            *(words.score(_scores(record, task, how, role), "accuracy") for role in ("control", "student")),
            _gain(record, task, how),
        )
        for task, how in FIGURES
    ]
    return Table(("", "Teacher", "Control", "Student", "Gain, points"), tuple(rows)).filled()


def notes(record: Record) -> list[str]:
    """What one must know to read the table."""
    if not record.tasks:
        return []
    old, new = (", ".join(map(str, listing(_task(record, task).get("classes")))) for task in ("old", "new"))
    text = (
        "Alone: among the classes of the task, as if somebody said which task an image is of "
        "(task-incremental). Joint: among all classes (class-incremental). The verdict is about "
        + ("the mean of both tasks alone." if record.metric == "task accuracy" else "both tasks joint.")
    )
    start = "Control and student begin as the teacher and see samples of the new task alone."
    return [f"Old task: {old}. New task: {new}.", f"{text} {start} {sentence(record)}".strip()]


def sentence(record: Record) -> str:
    """How much of the old task was forgotten: "" where that cannot be told."""
    known = mean(_teacher(record))
    if known is None:
        return ""
    lost = {role: mean(_scores(record, "old", "alone", role)) for role in ("student", "control")}
    told = [
        f"the {role} {words.gain(value - known, 'accuracy')}"
        for role, value in lost.items()
        if value is not None
    ]
    return f"Old task alone, against the teacher: {', '.join(told)}." if told else ""


def facts(record: Record) -> list[tuple[str, str, str]]:
    """The figures that people repeat: what is left of the old task, and what was learnt of the new one."""
    found = []
    for task in ("old", "new") if record.tasks else ():
        score = words.score(_scores(record, task, "alone", "student"), "accuracy")
        beside = [("control", words.score(_scores(record, task, "alone", "control"), "accuracy"))]
        beside += [("teacher", words.score(_teacher(record), "accuracy"))] if task == "old" else []
        if score:
            said = ", ".join(f"{who} {what}" for who, what in beside if what)
            found.append((f"{task.capitalize()} task, alone", score, said))
    return found


def _task(record: Record, task: str) -> Mapping[str, Any]:
    return mapping(record.tasks.get(task))


def _teacher(record: Record) -> tuple[float | None, ...]:
    return values(_task(record, "old").get("teacher"))


def _scores(record: Record, task: str, how: str, role: str) -> tuple[float | None, ...]:
    return values(mapping(_task(record, task).get(role)).get(how))


def _gain(record: Record, task: str, how: str) -> str:
    found = mapping(mapping(_task(record, task).get("gain")).get(how))
    centre = number(found.get("mean"))
    if centre is None:
        return ""
    ends = [number(end) for end in listing(found.get("interval"))]
    span = [words.points(end, "accuracy") for end in ends if end is not None]
    around = f" ({' to '.join(span)})" if len(span) == 2 else ""
    return words.points(centre, "accuracy") + around
