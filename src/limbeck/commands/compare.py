"""`limbeck compare`."""

from pathlib import Path
from typing import Any

import typer

from limbeck.commands.common import figure, table
from limbeck.commands.distill import side, stoppable
from limbeck.comparison import compare as run
from limbeck.errors import InputError
from limbeck.recipe import Recipe

__all__ = ["compare"]


def compare(
    recipe: Path,
    overrides: list[str],
    methods: str,
    seeds: int | None,
    out: Path | None,
    resume: bool,
    jobs: int,
    as_json: bool,
    small: bool = False,
) -> dict[str, Any] | None:
    """Compare methods; see `limbeck.comparison.compare`."""
    given = [word.strip() for word in methods.split(",")] if methods.strip() else []
    if not all(given):
        raise InputError(f"--methods: names with commas between, got {methods!r}.")
    more = [] if seeds is None else [f"seeds={seeds}"]
    loaded = Recipe.load(recipe, [*overrides, *more], small)
    folder = out or Path("runs") / f"{loaded.name}-compared"
    again = ["limbeck", "compare", str(recipe), *overrides, "--methods", methods]
    again += [] if seeds is None else ["--seeds", str(seeds)]
    again += ["--out", str(folder), "--resume", *side(jobs), *(["--small"] if small else [])]
    result = stoppable(
        lambda shown: run(loaded, folder, methods=given, resume=resume, jobs=jobs, display=shown), again
    )
    if result and not as_json:
        _summary(result, folder)
    return result or None  # None: another process of the same run speaks


def _summary(result: dict[str, Any], out: Path) -> None:
    """A row for each method, and the page to open."""
    from limbeck.report.record import Gain
    from limbeck.report.words import interval, percent, points

    metric, seeds = result["metric"], len(result["seeds"])
    rows = []
    if result["teacher"] is not None:
        rows.append(["teacher", figure(result["teacher"][metric]), *[""] * 6])
    named = {} if result["control"] is None else {"control": result["control"]}
    for name, found in (named | result["variants"]).items():
        if "failed" in found:
            rows.append([name, "given up", *[""] * 6])
            continue
        gain = found.get("gain")
        span = None if gain is None or gain["interval"] is None else tuple(gain["interval"])
        rows.append(
            [
                name,
                figure(found[metric]),
                figure(found["best"]),
                "" if gain is None else points(gain["mean"], metric),
                "" if span is None else interval(Gain(gain["mean"], span, seeds), metric),
                figure(found["agreement"]),
                figure(found["ece"]),
                f"{sum(found['seconds']) / seeds:.0f} s",
            ]
        )
    unit = "gain, points" if percent(metric) else "gain"
    heads = ("method", metric, "best epoch", unit, "95 % interval", "agreement", "ece", "time")
    table(heads, rows)
    typer.echo(
        f"{seeds} seed{'s' * (seeds > 1)}. Gain: paired with the control by seed. The best of "
        "several methods is partly luck."
    )
    for name, found in result["variants"].items():
        for said in found.get("failed", ()):
            typer.echo(f"{name}, {said}")
        if "parameters" in found:
            plain = result["student"]["parameters"]
            typer.echo(f"{name}: its student has {found['parameters']:,} parameters, the control {plain:,}.")
    typer.echo(f"Page: {(out / 'report.html').resolve()}")
