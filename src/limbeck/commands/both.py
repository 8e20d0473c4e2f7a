"""An old task and a new one as `limbeck check` and `limbeck distill` tell of them."""

from typing import TYPE_CHECKING, Any

import typer

from limbeck.commands.common import figure, table

if TYPE_CHECKING:
    from limbeck.data import Data
    from limbeck.report.record import Record

__all__ = ["both", "both_tasks", "tasks_lines"]


def both(data: "Data") -> dict[str, Any]:
    """Which classes and samples are whose, as plain values."""
    assert data.tasks is not None
    old, new = data.tasks.old, data.tasks.new
    test = data.test.targets
    return {
        "old": {
            "classes": [data.classes[number] for number in old],
            "train": len(data.tasks.before.train),
            "test": len(data.tasks.before.test),
        },
        "new": {
            "classes": [data.classes[number] for number in new],
            "train": len(data.train),
            "test": sum(int((test == number).sum()) for number in new),
        },
    }


def tasks_lines(scheme: dict[str, Any]) -> list[str]:
    """Who teaches whom by which terms, and which classes are old and new."""
    old, new = scheme["tasks"]["old"], scheme["tasks"]["new"]
    lines = [
        "scheme    lifelong: student and control begin as the teacher, and see samples of the new task alone",
        f"old task  {_counted(old, 'the teacher alone')}",
        f"new task  {_counted(new, 'student and control')}",
    ]
    for lesson in scheme["lessons"]:
        sources, terms = (", ".join(lesson[key]) for key in ("from", "terms"))
        lines.append(f"          {lesson['learner']} ← {sources}, by {terms}")
    return lines


def _counted(task: dict[str, Any], whom: str) -> str:
    named = ", ".join(task["classes"][:20]) + (", …" if len(task["classes"]) > 20 else "")
    return f"{named}: {task['train']} training samples for {whom}, {task['test']} test samples"


def both_tasks(result: dict[str, Any], record: "Record") -> None:
    """Print how well both tasks are known, and how much was forgotten."""
    from limbeck.report.tasks import FIGURES, sentence

    tasks = result["tasks"]
    rows = [["teacher", figure(tasks["old"]["teacher"]), "", "", "", ""]]
    for role in ("control", "student"):
        if tasks["old"][role] is not None:
            found = [figure(tasks[task][role][how]) for task, how in FIGURES]
            rows.append([role, *found, figure(result[role]["accuracy"])])
    table(("accuracy", *(f"{task} task, {how}" for task, how in FIGURES), "all classes"), rows)
    typer.echo("Alone: among the classes of the task. Joint: among all classes.")
    typer.echo(sentence(record))
