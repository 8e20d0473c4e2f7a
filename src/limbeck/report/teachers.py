"""Each of several teachers, and how much it counted: for the page of a run."""

from limbeck.report import words
from limbeck.report.record import Record
from limbeck.report.render import Table
from limbeck.report.values import mapping, mean

__all__ = ["models", "note", "table"]


def table(record: Record) -> Table:
    """A row for each teacher: empty where there is one alone."""
    columns = ("", record.metric.capitalize(), "Weight", "Parameters", "Stored size", "Latency")
    rows = []
    for name, row in record.teachers.items():
        found = tuple(v for v in record.weights.get(name, ()) if v is not None)
        rows.append(
            (
                name,
                words.score(row.score, record.metric),
                words.score(found, "agreement") if mean(found) is not None else "",
                words.count(row.parameters),
                words.size(row.bytes),
                words.latency(row.latency),
            )
        )
    return Table(columns, tuple(rows)).filled()


def note(record: Record) -> str:
    """What one must know to read the table."""
    if not record.teachers:
        return ""
    said = mapping(record.settings.get("weighting"))
    options = ", ".join(f"{key} {value}" for key, value in said.items() if key != "name")
    how = f"Weighting: {said.get('name', 'average')}{f' ({options})' if options else ''}. "
    seeds = " over seeds" if len(record.seeds) > 1 else ""
    return (
        f"{how}A weight is the mean share that a teacher had in what the student was told, in its last epoch"
        f"{seeds}. In the results above, “Teacher” is the average of the probabilities of all of them."
    )


def models(record: Record) -> str:
    """The models of several teachers in one line; empty where there is one alone."""
    given = record.settings.get("teacher")
    found = [mapping(one).get("model") for one in given] if isinstance(given, list) else []
    return " + ".join(str(model) for model in found if model)
