"""The page of one run: what happened, shown to someone who was not there."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from limbeck.report import checkpoints, curves, exits, figures, tasks, teachers, words
from limbeck.report.charts import Figure
from limbeck.report.links import links, render_links
from limbeck.report.record import Record, Row, failures, read
from limbeck.report.render import Table, render, store
from limbeck.report.values import mapping, mean
from limbeck.report.variants import records, render_variants

__all__ = ["write"]


def write(run: Path, out: Path | None = None) -> Path:
    """Writes the report of a run, or of a comparison, as one HTML file that opens offline.

    Args:
        run: the run's folder; its result.json, metrics.jsonl and recipe.yaml are read.
        out: the file to write, or a folder for a `report.html`; None: `report.html` in the run's folder.

    Returns:
        The path of the file.

    Raises:
        InputError: the folder is no finished run.
        WorkError: the file cannot be written.
    """
    record = read(Path(run))
    goal = Path(run) if out is None else Path(out)
    compared, linked = records(Path(run)), links(Path(run))
    if linked:
        page = render_links(record, linked, Path(run))
    else:
        page = render_variants(record, compared, failures(run)) if compared else _page(record)
    return store(page, goal / "report.html" if goal.is_dir() else goal)


def _page(record: Record) -> str:
    return render(
        "page.html.j2",
        record=record,
        version=record.version,
        subtitle=_subtitle(record),
        verdict=words.verdict(record),
        facts=_facts(record),
        table=_table(record),
        notes=_notes(record),
        teachers=teachers.table(record),
        weighting=teachers.note(record),
        further=checkpoints.further(record),
        choices=checkpoints.choices(record),
        tasks=tasks.table(record),
        exit_files=exits.files(record),
        stopping=exits.stopping(record),
        tasks_notes=tasks.notes(record),
        sections=_sections(record),
        others=sorted(record.others.items()),
        seconds=_seconds(record),
        environment=[(key.replace("_", " "), value) for key, value in record.environment.items() if value],
        command=f"limbeck distill recipe.yaml --out {shlex.quote(f'runs/{record.name}-again')}",
    )


def _subtitle(record: Record) -> str:
    """Who teaches whom on what, as far as the recipe says."""
    said = []
    models = [str(m) for part in ("teacher", "student") if (m := _setting(record, part, "model"))]
    if several := teachers.models(record):
        models.insert(0, several)
    if models:
        said.append(" → ".join(models))
    scheme = str(_setting(record, "scheme", "name") or "offline")
    if scheme != "offline":
        kind = _setting(record, "scheme", "kind") or ("mutual" if scheme == "online" else "")
        said.append(f"{scheme} {kind}".strip())
    if source := _setting(record, "data", "source"):
        said.append(str(source))
    if record.epochs is not None:
        said.append(f"{record.epochs} epoch" + "s" * (record.epochs != 1))
    if record.seeds:
        said.append(f"{len(record.seeds)} seed" + "s" * (len(record.seeds) != 1))
    return " · ".join(said)


def _setting(record: Record, part: str, key: str) -> object:
    found = record.settings.get(part)
    return found.get(key) if isinstance(found, Mapping) else None


def _facts(record: Record) -> list[tuple[str, str, str]]:
    """The few figures that people repeat: (what, figure, what it refers to)."""
    facts = []
    teacher, student = record.rows.get("teacher"), record.rows.get("student")
    if record.gain is not None:
        alone = "one seed: no interval" if record.gain.seeds == 1 else "no interval"
        span = words.interval(record.gain, record.metric)
        facts.append(
            (
                "Gain over the control",
                words.gain(record.gain.mean, record.metric),
                span or alone,
            )
        )
    if student is None or record.tasks:  # with tasks the student has its teacher's size
        return facts + tasks.facts(record)
    if teacher is not None:
        for title, less, more, key in (
            ("Stored size", "smaller than the teacher", "larger than the teacher", "bytes"),
            ("Latency", "faster than the teacher", "slower than the teacher", "latency"),
        ):
            if found := words.times(getattr(teacher, key), getattr(student, key), less, more):
                facts.append((title, *found))
    if (agreement := mean(student.agreement)) is not None:
        facts.append(
            ("Same answer as the teacher", words.score((agreement,), "agreement"), "of the test samples")
        )
    return facts


def _table(record: Record) -> Table:
    metric = record.metric.capitalize()
    columns = ("", metric, "Parameters", "Stored size", "Latency", "Agreement", "Calibration error")
    two = bool(record.tasks)
    rows = [_cells(row, record.metric, two) for row in record.costs().values() if not row.export]
    rows += [(name, *_cells(row, record.metric, two)[1:]) for name, row in record.beside.items()]
    rows += [_cells(row, record.metric, two) for row in record.rows.values() if row.export]
    return Table(columns, tuple(rows)).filled()


def _cells(row: Row, metric: str, only_old: bool) -> tuple[str, ...]:
    label = f"Student, {row.label}" if row.export else row.label
    return (
        f"{label}, old classes alone" if only_old and row.key == "teacher" else label,
        words.score(row.score, metric),
        words.count(row.parameters),
        words.size(row.bytes),
        words.latency(row.latency),
        # A file agrees with the student that it was made from, not with the teacher: the notes tell.
        words.score(() if row.export else row.agreement, "agreement"),
        words.score(row.ece, "ece"),
    )


def _notes(record: Record) -> list[str]:
    """What one must know to read the table."""
    notes = []
    rows = record.rows.values()
    if any(len(row.score) > 1 for row in rows):
        notes.append("± is the standard deviation over seeds.")
    if "control" in record.rows:
        own = isinstance(record.settings.get("control"), Mapping)
        how = "as the recipe’s control says" if own else f"on the same plan {_without(record)}"
        if teacher := mapping(mapping(record.settings.get("control")).get("teacher")).get("model"):
            how = f"by another teacher ({teacher}); agreement is with the student’s teacher"
        notes.append(f"The control is the same student, trained {how}.")
    if _setting(record, "student", "head") == "teacher":
        notes.append(
            "The student ends in its teacher’s classifier, behind a projector; the control does not."
        )
    if record.beside:
        notes.append(
            f"{', '.join(record.beside)} learned with the student. Which of them counts was settled before "
            "the training: the student."
        )
    if averaging := checkpoints.averaging(record):
        notes.append(averaging)
    if any(row.latency for row in rows):
        notes.append("Latency: median at batch 1 on one thread of the machine that ran this.")
    if any(row.export for row in rows):
        notes.append(_exported(record))
    best = [
        f"{key} {words.score(record.rows[key].best, record.metric)}"
        for key in ("control", "student")
        if key in record.rows and mean(record.rows[key].best) is not None
    ]
    text = [" ".join(notes)] if notes else []
    if best:
        text.append(
            f"Best epoch: {', '.join(best)}. Such a figure is picked in hindsight on the test set; it stands "
            f"here for comparison with the literature; the verdict takes {checkpoints.taken(record)}."
        )
    return text


def _without(record: Record) -> str:
    """What the control lacks."""
    word = {"online": "alone, by the labels", "own": "by the labels alone"}
    return word.get(str(_setting(record, "scheme", "name")), "without the teacher")


def _exported(record: Record) -> str:
    """Exports are of one seed, so they are to be held against that seed and not against the mean."""
    student = record.rows.get("student")
    if student is None or len(student.score) < 2 or student.score[0] is None:
        return f"The exported files are of the student of this run.{_parity(record)}"
    seed = record.seeds[0] if record.seeds else 0
    own = words.score(student.score[:1], record.metric)
    return f"The exported files are of seed {seed}, whose student scores {own}.{_parity(record)}"


def _parity(record: Record) -> str:
    found = [
        f"{row.label} {words.score(row.agreement, 'agreement')}"
        for row in record.rows.values()
        if row.export and mean(row.agreement) is not None
    ]
    return f" They name the same class as that student in PyTorch: {', '.join(found)}." if found else ""


def _sections(record: Record) -> list[tuple[str, list[Figure]]]:
    drawn = {
        "Student against control" if "control" in record.rows else "Student": [
            figures.by_seed(record),
            figures.agreement(record),
        ],
        "Learning": [curves.learning(record), curves.losses(record)],
        # A teacher of other classes has no place beside its student there.
        "Cost": [] if record.tasks else [figures.against(record, what) for what in ("bytes", "latency")],
        "Classes": [figures.by_class(record)],
    }
    kept = {title: [figure for figure in several if figure is not None] for title, several in drawn.items()}
    return [(title, several) for title, several in kept.items() if several]


def _seconds(record: Record) -> list[tuple[str, str]]:
    entries = [(key.replace("_", " "), words.duration(value)) for key, value in record.seconds.items()]
    if len(entries) > 1 and "total" not in record.seconds:
        entries.append(("together", words.duration(sum(record.seconds.values()))))
    return entries
