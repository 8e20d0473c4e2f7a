"""The page of a comparison: every method's student against one control, under one budget."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.report import checkpoints, curves, figures, words
from limbeck.report.charts import Figure
from limbeck.report.record import Record, Row, parts, read
from limbeck.report.render import Table, render
from limbeck.report.values import mean

__all__ = ["records", "render_variants"]


def records(run: Path) -> list[Record]:
    """One record for each variant: the control and the teacher are those of all; empty for a plain run."""
    whole = read(run)
    return [
        replace(
            whole,
            name=name,
            rows={
                **{k: r for k, r in whole.rows.items() if k != "student"},
                "student": _with_size(row, whole),
            },
            gain=gain,
            series=tuple(
                replace(s, role="student") if s.role == name else s
                for s in whole.series
                if s.role in (name, "control")
            ),
        )
        for name, (row, gain) in parts(run).items()
    ]


def _with_size(row: Row, whole: Record) -> Row:
    student = whole.rows.get("student")
    if student is None or row.parameters is not None:
        return row
    return replace(row, parameters=student.parameters, bytes=student.bytes)


def render_variants(whole: Record, found: Sequence[Record], failed: Mapping[str, str]) -> str:
    """The page as a string; `failed` says why a method has no figures."""
    tone, sentence = _summary([record for record in found if record.name not in failed], len(failed))
    drawn: list[Figure | None] = [figures.gains(found, "Gain by method"), curves.variants(found)]
    return render(
        "variants.html.j2",
        title=whole.name,
        version=whole.version,
        tone=tone,
        sentence=sentence,
        table=_table(whole, found),
        notes=_notes(whole, found),
        drawn=[figure for figure in drawn if figure is not None],
        verdicts=[
            (r.name, f"Given up. {failed[r.name]}" if r.name in failed else words.verdict(r).sentence)
            for r in found
        ],
        objectives=[(record.name, _objective(whole, record.name)) for record in found],
        environment=[(key.replace("_", " "), value) for key, value in whole.environment.items() if value],
        recipe=whole.recipe,
    )


def _summary(found: Sequence[Record], failed: int) -> tuple[str, str]:
    """How many methods helped; no winner is named, since the best of many is partly luck."""
    tones = [words.verdict(record).tone for record in found]
    count = len(found) + failed
    several = f"{count} method" + "s" * (count != 1)
    counts = [
        (tones.count("good"), "clearly above the control"),
        (tones.count("bad"), "clearly below the control"),
        (tones.count("open"), "not told apart from the control"),
        (failed, "given up"),
    ]
    said = ", ".join(f"{count} {text}" for count, text in counts if count)
    tone = "good" if tones.count("good") else "bad" if tones.count("bad") == len(found) else "open"
    return tone, f"Of {several} under one budget: {said}."


def _table(whole: Record, found: Sequence[Record]) -> Table:
    metric = whole.metric.capitalize()
    columns = (
        "",
        f"{metric}, {checkpoints.short(whole)}",
        f"{metric}, best epoch",
        "Gain, points" if words.percent(whole.metric) else "Gain",
        "95 % interval",
        "Agreement",
        "Calibration error",
        "Time a training",
    )
    rows = [_cells(whole, key, whole.rows[key], None) for key in ("teacher", "control") if key in whole.rows]
    rows += [_cells(whole, record.name, record.rows["student"], record) for record in found]
    return Table(columns, tuple(rows)).filled()


def _cells(whole: Record, name: str, row: Row, record: Record | None) -> tuple[str, ...]:
    gain = None if record is None else record.gain
    spent, seeds = whole.seconds.get(name), max(1, len(whole.seeds))
    trained = name != "teacher"
    return (
        name,
        words.score(row.score, whole.metric),
        words.score(row.best, whole.metric) if trained else "",
        words.points(gain.mean, whole.metric) if gain else "",
        words.interval(gain, whole.metric) if gain else "",
        words.score(row.agreement, "agreement"),
        words.score(row.ece, "ece"),
        words.duration(spent / seeds) if spent and trained else "",
    )


def _notes(whole: Record, found: Sequence[Record]) -> list[str]:
    text = "All students start from the control’s weights and see its batches in its order."
    if len(whole.seeds) > 1:
        text += " ± is the standard deviation over seeds; the gain is paired by seed."
    notes = [text, *_larger(whole, found)]
    if any(mean(record.rows["student"].best) is not None for record in found):
        notes.append(
            "The best epoch is picked in hindsight on the test set; it stands here for comparison with the "
            f"literature, and the gain takes {checkpoints.taken(whole)}."
        )
    if len(found) > 1:
        notes.append(
            f"The intervals are not corrected for {len(found)} comparisons: about one in twenty leaves zero "
            "out by chance, and the best of several is partly luck. Confirm it with fresh seeds."
        )
    return notes


def _larger(whole: Record, found: Sequence[Record]) -> list[str]:
    """What to know of students that are other networks than the control."""
    plain = whole.rows["student"].parameters if "student" in whole.rows else None
    sizes = {record.name: record.rows["student"].parameters for record in found}
    return [
        f"The student of {name} is another network than the control: it ends in the teacher’s classifier, "
        f"behind a projector, and has {size:,} parameters instead of {plain:,}."
        for name, size in sizes.items()
        if size is not None and plain is not None and size != plain
    ]


def _objective(whole: Record, name: str) -> str:
    """The terms of a variant on one line, those of its stages first."""
    variants = whole.settings.get("variants")
    own = variants.get(name) if isinstance(variants, Mapping) else None
    if not isinstance(own, Mapping):
        return ""
    said = []
    for stage in own.get("stages") or ():
        epochs = stage.get("epochs")
        what = "its own layers" if stage.get("trains") == "layers" else "the student"
        plural = "" if epochs == 1 else "s"
        said.append(f"first {what}, {epochs} epoch{plural}: {_terms(stage.get('objective'))}")
    return "; ".join([*said, ("then: " if said else "") + _terms(own.get("objective"))])


def _terms(terms: Any) -> str:
    return ", ".join(f"{key} {_term(value)}" for key, value in (terms or {}).items())


def _term(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    fields = [f"{key}: {_plain(item)}" for key, item in value.items() if key != "options"]
    return "{" + ", ".join(fields) + "}"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {v}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
