"""The page of a chain: its links one after another, and what the last student is held against."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.errors import InputError
from limbeck.report import checkpoints, curves, figures, words
from limbeck.report.charts import COLOURS, Figure, draw
from limbeck.report.record import Record, Row, read, result_of, row_of
from limbeck.report.render import Table, render
from limbeck.report.values import listing, mapping, mean

__all__ = ["LinkRow", "links", "render_links"]


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One link of a chain: its name, who taught it, its student's model and figures, its folder.

    `control`: its students are the chain's control as well.
    """

    name: str
    teacher: str
    model: str
    folder: str
    row: Row
    control: bool = False


def links(run: Path) -> tuple[LinkRow, ...]:
    """The links of a chain, in order; empty for any other run.

    Raises:
        InputError: as `read`.
    """
    result = result_of(Path(run))
    metric, direct = str(result.get("metric") or "accuracy"), mapping(result.get("control")).get("link")
    return tuple(
        LinkRow(
            name=str(stage.get("name") or ""),
            teacher=str(stage.get("teacher") or ""),
            model=str(stage.get("student") or ""),
            folder=str(stage["folder"]),
            row=row_of("student", stage, metric),
            control=direct is not None and stage.get("name") == direct,
        )
        for stage in map(mapping, listing(result.get("stages")))
        if stage.get("folder")  # the stages of one training have none
    )


def render_links(record: Record, found: Sequence[LinkRow], run: Path) -> str:
    """The page as a string.

    Args:
        record: of the chain.
        found: its links.
        run: its folder, below which the links lie; where they are gone, their curves are left out.
    """
    return render(
        "links.html.j2",
        record=record,
        version=record.version,
        subtitle=_subtitle(record, found),
        verdict=words.verdict(record),
        facts=_facts(record),
        table=_table(record, found),
        notes=_notes(record),
        pages=[(link.name, f"{link.folder}/report.html") for link in found],
        further=checkpoints.further(record),
        sections=_sections(record, found, run),
        seconds=[(key, words.duration(value)) for key, value in record.seconds.items()],
        environment=[(key.replace("_", " "), value) for key, value in record.environment.items() if value],
        command=f"limbeck distill recipe.yaml --out {shlex.quote(f'runs/{record.name}-again')}",
    )


def _subtitle(record: Record, found: Sequence[LinkRow]) -> str:
    """Who teaches whom, on what."""
    names = [*filter(None, [found[0].teacher]), *(link.name for link in found)]
    said = [" → ".join(names), str(mapping(record.settings.get("data")).get("source") or "")]
    said += [f"{len(record.seeds)} seed" + "s" * (len(record.seeds) != 1)] if record.seeds else []
    return " · ".join(filter(None, said))


def _pair(record: Record) -> str:
    """What the control of a chain is called."""
    own = mapping(record.settings.get("control"))
    if own.get("objective") and not own.get("teacher"):
        return "Control"
    return "Direct pair" if words.taught(record) else "Plain training"


def _facts(record: Record) -> list[tuple[str, str, str]]:
    facts = []
    if record.gain is not None:
        alone = "one seed: no interval" if record.gain.seeds == 1 else "no interval"
        span = words.interval(record.gain, record.metric) or alone
        facts.append(
            (f"Gain over {_pair(record).lower()}", words.gain(record.gain.mean, record.metric), span)
        )
    teacher, student = record.rows.get("teacher"), record.rows.get("student")
    for title, less, more, key in (
        ("Stored size", "smaller than the first teacher", "larger than the first teacher", "bytes"),
        ("Latency", "faster than the first teacher", "slower than the first teacher", "latency"),
    ):
        if (
            teacher
            and student
            and (told := words.times(getattr(teacher, key), getattr(student, key), less, more))
        ):
            facts.append((title, *told))
    return facts


def _table(record: Record, found: Sequence[LinkRow]) -> Table:
    columns = (
        "",
        "Taught by",
        record.metric.capitalize(),
        "Parameters",
        "Stored size",
        "Latency",
        "Agreement",
        "Calibration error",
    )
    rows = []
    if teacher := record.rows.get("teacher"):
        rows.append(_cells(f"Teacher ({_short(found[0].teacher)})", "", teacher, record.metric))
    for number, link in enumerate(found, 1):
        by = (link.teacher if number > 1 else _short(link.teacher)) or "labels"
        same = f" ({_pair(record).lower()})" if link.control else ""
        rows.append(_cells(f"{number}. {link.name}{same}", by, link.row, record.metric))
    costs = record.costs()
    if (control := costs.get("control")) and not any(link.control for link in found):
        rows.append(
            _cells(_pair(record), _its_teacher(record, found), control, record.metric, agreement=False)
        )
    if together := costs.get("ensemble"):
        rows.append(_cells("Ensemble of all generations", "", together, record.metric))
    for row in costs.values():
        if row.export:
            rows.append(_cells(f"{found[-1].name}, {row.label}", "", row, record.metric, agreement=False))
    return Table(columns, tuple(rows)).filled()


def _short(model: str) -> str:
    """A model's name without what stands before it."""
    return model.rpartition(":")[2].rpartition("/")[2]


def _its_teacher(record: Record, found: Sequence[LinkRow]) -> str:
    if _pair(record) == "Direct pair":
        own = mapping(mapping(record.settings.get("control")).get("teacher")).get("model")
        return _short(str(own or found[0].teacher))
    return "labels"


def _cells(label: str, by: str, row: Row, metric: str, *, agreement: bool = True) -> tuple[str, ...]:
    return (
        label,
        by,
        words.score(row.score, metric),
        words.count(row.parameters),
        words.size(row.bytes),
        words.latency(row.latency),
        words.score(row.agreement, "agreement") if agreement else "",
        words.score(row.ece, "ece"),
    )


def _notes(record: Record) -> list[str]:
    """What one must know to read the table."""
    several = len(record.seeds) > 1
    said = ["± is the standard deviation over seeds."] if several else []
    if "control" in record.rows:
        pair = _pair(record)
        said.append(
            {
                "Direct pair": "The direct pair is the last student taught by the first teacher: the same "
                "terms, the same weights to start from, the same batches in the same order, as many epochs.",
                "Plain training": "Plain training is the last student on labels alone: the same weights to "
                "start from, the same batches in the same order, as many epochs.",
            }.get(pair, "The control is the last student, trained as the recipe’s control says.")
        )
    said.append("Agreement is with each link’s own teacher.")
    if "ensemble" in record.rows:
        said.append("The ensemble is the mean of the probabilities of each seed’s generations.")
    if any(row.latency for row in record.rows.values()):
        said.append("Latency: median at batch 1 on one thread of the machine that ran this.")
    notes = [" ".join(said)]
    if several:
        seed = record.seeds[0]
        notes.append(
            f"The teacher of every link after the first is one network, the student of seed {seed} in the "
            "link before. So the interval is about the last student’s start and order; with another teacher "
            "in between it may lie elsewhere."
        )
    return notes


def _sections(record: Record, found: Sequence[LinkRow], run: Path) -> list[tuple[str, list[Figure]]]:
    inner = {link.name: one for link in found if (one := _inner(run / link.folder)) is not None}
    pair = _pair(record)
    drawn: dict[str, list[Figure | None]] = {
        "Link by link": [_along(record, found), figures.by_seed(record)],
        "Learning": [
            _titled(curves.learning(one), f"{n}. {name}", f"learning-{n}", "learning")
            for n, (name, one) in enumerate(inner.items(), 1)
        ],
        "Cost": [figures.against(record, "bytes"), figures.against(record, "latency")],
        f"Classes: the last student against {pair.lower()}": [figures.by_class(record)],
    }
    kept = {title: [figure for figure in several if figure is not None] for title, several in drawn.items()}
    return [(title, several) for title, several in kept.items() if several]


def _inner(folder: Path) -> Record | None:
    """The record of a link; None where its folder is gone."""
    try:
        return read(folder)
    except InputError:
        return None


def _titled(figure: Figure | None, title: str, name: str, before: str) -> Figure | None:
    """A figure under another title, with ids of its own on the page."""
    if figure is None:
        return None
    svg = figure.svg.replace(f'id="{before}', f'id="{name}').replace(f"#{before}-", f"#{name}-")
    svg = svg.replace(f'"{before}-', f'"{name}-')
    return Figure(f"{title}: {figure.title.lower()}", figure.alt, figure.note, svg)


def _along(record: Record, found: Sequence[LinkRow]) -> Figure | None:
    """The metric of each link in order, a dot for each seed, and the direct pair beside the last."""
    metric = record.metric
    unit = 100 if words.percent(metric) else 1
    points: list[tuple[str, Row, str]] = []
    if teacher := record.rows.get("teacher"):
        points.append(("teacher", teacher, "teacher"))
    points += [(link.name, link.row, "control" if link.control else "student") for link in found]
    if (control := record.rows.get("control")) and not any(link.control for link in found):
        points.append((_pair(record).lower(), control, "control"))
    if together := record.rows.get("ensemble"):
        points.append(("ensemble", together, "term1"))
    points = [point for point in points if mean(point[1].score) is not None]
    if len(points) < 2:
        return None

    def paint(axes: Any) -> None:
        count = len(found) + (points[0][2] == "teacher")  # the rest stands beside the chain
        line = [(at, mean(row.score)) for at, (_, row, _) in enumerate(points[:count])]
        axes.plot(
            [x for x, _ in line], [(y or 0.0) * unit for _, y in line], color=COLOURS["muted"], linewidth=0.8
        )
        for at, (_, row, colour) in enumerate(points):
            values = [v * unit for v in row.score if v is not None]
            face = COLOURS["paper"] if colour == "control" else COLOURS[colour]
            if len(values) > 1:
                axes.plot([at] * len(values), values, "o", color=COLOURS[colour], alpha=0.45, ms=3.5, mew=0)
            centre = (mean(row.score) or 0.0) * unit
            axes.plot([at], [centre], "o", color=COLOURS[colour], markerfacecolor=face, ms=6.5)
            axes.annotate(
                f"{centre:.2f}" if unit == 100 else f"{centre:.4f}", (at, centre), (7, 5),
                textcoords="offset points", color=COLOURS[colour], annotation_clip=False,
            )  # fmt: skip
        labels = [words.short(name, 14) for name, _, _ in points]
        axes.set_xticks(range(len(points)), labels, rotation=0 if len(points) < 5 else 30)
        axes.set_xlim(-0.3, len(points) - 0.45)
        axes.margins(y=0.15)
        axes.set_ylabel(words.axis(metric))
        axes.grid(visible=False, axis="x")

    alt = f"{metric} along the chain: " + "; ".join(
        f"{name} {words.score(row.score, metric)}" for name, row, _ in points
    )
    note = "Each is taught by the one before it; the hollow point is what the last student is held against."
    return Figure(f"{metric.capitalize()} along the chain", alt, note, draw("along", alt, paint))
