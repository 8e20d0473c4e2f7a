"""One page for several runs: a row for each, and their gains side by side."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import InputError
from limbeck.report import checkpoints, figures, words
from limbeck.report.record import Record, read
from limbeck.report.render import Table, render, store

__all__ = ["write_many"]


def write_many(runs: Sequence[Path], out: Path) -> Path:
    """Writes the comparison of several runs as one HTML file that opens offline.

    Args:
        runs: the folders of finished runs, in the order in which they shall stand.
        out: the file to write, or a folder for a `report.html`.

    Returns:
        The path of the file.

    Raises:
        InputError: no run is given, a folder is no finished run, or the runs are judged by different metrics.
        WorkError: the file cannot be written.
    """
    if not runs:
        raise InputError("report: no run folder is given.")
    records = [read(Path(run)) for run in runs]
    metrics = sorted({record.metric for record in records})
    if len(metrics) > 1:
        raise InputError(f"report: runs of one page must share their metric; given: {', '.join(metrics)}.")
    goal = Path(out)
    return store(_page(records), goal / "report.html" if goal.is_dir() else goal)


def _page(records: Sequence[Record]) -> str:
    tone, sentence = _summary(records)
    return render(
        "compare.html.j2",
        title=f"{len(records)} run" + "s" * (len(records) != 1),
        version=records[0].version,
        tone=tone,
        sentence=sentence,
        table=_table(records),
        notes=_notes(records),
        drawn=figures.gains(records),
        verdicts=[(record.name, words.verdict(record).sentence) for record in records],
    )


def _summary(records: Sequence[Record]) -> tuple[str, str]:
    """How many runs helped; no winner is named, since the best of many is partly luck."""
    tones = [words.verdict(record).tone for record in records]
    total = f"{len(records)} run" + "s" * (len(records) != 1)
    helped, hurt = tones.count("good"), tones.count("bad")
    rest = len(records) - helped - hurt
    said = [f"clearly helped in {helped}"] * bool(helped) + [f"clearly hurt in {hurt}"] * bool(hurt)
    said += [f"shows no clear effect in {rest}"] * bool(rest)
    tone = "good" if helped == len(records) else "bad" if hurt == len(records) else "open"
    listed = " and ".join(filter(None, [", ".join(said[:-1]), said[-1]]))
    return tone, f"Of {total}, distilling {listed}."


def _table(records: Sequence[Record]) -> Table:
    columns = (
        "Run",
        "Teacher",
        "Control",
        "Student",
        "Gain, points" if words.percent(records[0].metric) else "Gain",
        "95 % interval",
        "Seeds",
        "Stored size",
        "Latency",
    )
    return Table(columns, tuple(_cells(record) for record in records)).filled()


def _cells(record: Record) -> tuple[str, ...]:
    rows, gain = record.rows, record.gain
    student = rows.get("student")
    scores = (
        words.score(rows[key].score, record.metric) if key in rows else ""
        for key in ("teacher", "control", "student")
    )
    return (
        record.name,
        *scores,
        words.points(gain.mean, record.metric) if gain else "",
        words.interval(gain, record.metric) if gain else "",
        str(len(record.seeds) or ""),
        words.size(student.bytes) if student else "",
        words.latency(student.latency) if student else "",
    )


def _notes(records: Sequence[Record]) -> list[str]:
    metric = records[0].metric
    ends = {checkpoints.taken(record) for record in records}
    taken = f"of {ends.pop()}" if len(ends) == 1 else "of the weights that each run takes in the end"
    text = f"Teacher, control and student: {metric} {taken}; size and latency are the student’s."
    if any(len(record.seeds) > 1 for record in records):
        text += " ± is the standard deviation over seeds."
    if len(records) > 1:
        text += " The best of several runs is partly luck: confirm it with fresh seeds."
    return [text]
