"""`limbeck distill` and `limbeck demo`."""

import shlex
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import typer

from limbeck.commands.both import both_tasks
from limbeck.commands.common import figure, milliseconds, screen, size, table
from limbeck.phase import Interrupted
from limbeck.progress import Display
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe
from limbeck.running import run

__all__ = ["demo", "distill", "side", "stoppable", "summary"]


def distill(
    recipe: Path,
    overrides: list[str],
    out: Path | None,
    resume: bool,
    jobs: int,
    as_json: bool,
    small: bool = False,
) -> dict[str, Any] | None:
    """Run a recipe; see `limbeck.running.run`."""
    loaded = Recipe.load(recipe, overrides, small)
    folder = out or Path("runs") / loaded.name
    again = ["limbeck", "distill", str(recipe), *overrides, "--out", str(folder), "--resume", *side(jobs)]
    again += ["--small"] if small else []
    return _run(loaded, folder, resume, jobs, as_json, again)


def demo(out: Path | None, seeds: int, as_json: bool) -> dict[str, Any] | None:
    """Run the built-in recipe of the digits."""
    source = files("limbeck") / "demo.yaml"
    loaded = Recipe.from_dict(read_yaml(source.read_text()), None, [f"seeds={seeds}"])
    folder = out or _free(Path("runs") / loaded.name)
    # A run folder holds its recipe, so the demo needs no words of its own to go on.
    again = ["limbeck", "distill", str(folder / "recipe.yaml"), "--out", str(folder), "--resume"]
    return _run(loaded, folder, False, 1, as_json, again)


def _free(folder: Path) -> Path:
    """The folder, or the first numbered one that does not exist: the demo never asks and never overwrites."""
    number, free = 2, folder
    while free.exists():
        free, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return free


def side(jobs: int) -> list[str]:
    """The words that ask for trainings side by side."""
    return ["--jobs", str(jobs)] if jobs > 1 else []


def _run(
    recipe: Recipe, out: Path, resume: bool, jobs: int, as_json: bool, again: list[str]
) -> dict[str, Any] | None:
    """Run a recipe, and show what it found."""
    result = stoppable(lambda shown: run(recipe, out, resume=resume, jobs=jobs, display=shown), again)
    if result and not as_json:
        summary(result, out)
    return result or None  # None: another process of the same run speaks


def stoppable(work: Callable[[Display], dict[str, Any]], again: list[str]) -> dict[str, Any]:
    """Do work that can be stopped; then say how to go on (`again`), and exit with 130."""
    shown = screen()
    try:
        return work(shown)
    except Interrupted:
        shown.say(f"limbeck: stopped; everything is saved. Go on with: {shlex.join(again)}")
        raise typer.Exit(130) from None
    except KeyboardInterrupt:
        shown.say(f"limbeck: stopped at once. Go on from the last saved state with: {shlex.join(again)}")
        raise typer.Exit(130) from None


def summary(result: dict[str, Any], out: Path) -> None:
    """The table that a run ends with, the verdict, and the page to open."""
    from limbeck.report.record import BESIDE, read
    from limbeck.report.words import verdict

    metric = result["metric"]
    student = result["student"]
    rows = []
    for name, found in _networks(result):
        # The control is the same network as the student, unless that ends in the teacher's classifier.
        shape = found if "parameters" in found else student
        rows.append(
            [
                "teacher, old classes" if name == "teacher" and "tasks" in result else name,
                figure(found[metric]),
                f"{shape['parameters']:,}",
                size(shape.get("bytes")),
                milliseconds(shape.get("latency_ms")),
            ]
        )
    for word in BESIDE:
        rows += [
            [name, figure(found[metric]), f"{found['parameters']:,}", "", ""]
            for name, found in result.get(word, {}).items()
        ]
    for form, found in result["exports"].items():
        rows.append(
            [
                f"student, {form}",
                figure(found[metric]),
                f"{found.get('parameters', student['parameters']):,}",
                size(found["bytes"]),
                milliseconds(found["latency_ms"]),
            ]
        )
    table((result["name"], metric, "parameters", "size", "latency"), rows)
    typer.echo("Latency: one sample, one thread. Exports are of the first seed.")
    record = read(out)
    if record.tasks:
        both_tasks(result, record)
    typer.echo(verdict(record).sentence)
    typer.echo(f"Page: {(out / 'report.html').resolve()}")


def _networks(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Teacher, control and student by name; of a chain every link, and its ensemble."""
    links = [stage for stage in result.get("stages", ()) if "folder" in stage]
    shown = {key: result.get(key) for key in ("teacher", "control", "student", "ensemble")}
    if links:
        for key, found in shown.items():
            if key == "student":
                yield from ((f"{n}. {link['name']}", link) for n, link in enumerate(links, 1))
            elif found is not None:
                link = found.get("link")
                yield f"{key} ({link})" if link else key, found
        return
    yield from ((key, found) for key, found in shown.items() if found is not None)
