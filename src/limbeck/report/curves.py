"""What was learnt, by epoch: the metric of control and student, and the terms of the student's loss."""

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.report import words
from limbeck.report.charts import COLOURS, Figure, draw, spread_out
from limbeck.report.record import Record, Series
from limbeck.report.values import mean

__all__ = ["learning", "losses", "variants"]

Points = Sequence[tuple[float, float]]

MOST_TERMS = 4
MOST_VARIANTS = 15
VARIANT_COLOURS = ("student", "term1", "term2", "term3", "term4")


def learning(record: Record) -> Figure | None:
    """The metric by epoch: a thin line for each seed, a thick one for their mean, the teacher as a level."""
    unit = 100 if words.percent(record.metric) else 1
    curves = {
        role: [s for s in record.series if s.role == role and s.scores] for role in ("control", "student")
    }
    curves = {role: found for role, found in curves.items() if found}
    if not curves:
        return None
    means = {role: _mean([s.scores for s in found]) for role, found in curves.items()}
    ends = {role: points[-1] for role, points in means.items()}
    # A teacher that knows one of two tasks has no level in the mean of both.
    known = "teacher" in record.rows and not record.tasks
    teacher = mean(record.rows["teacher"].score) if known else None

    def paint(axes: Any) -> None:
        for role, found in curves.items():
            for series in found if len(found) > 1 else ():
                axes.plot(*_xy(series.scores, unit), color=COLOURS[role], alpha=0.35, linewidth=0.7)
            style = (0, (5, 2)) if role == "control" else "-"
            alone = "o" if len(means[role]) == 1 else ""
            axes.plot(
                *_xy(means[role], unit), color=COLOURS[role], linewidth=1.8, linestyle=style, marker=alone
            )
        labels = [(y * unit, role, role) for role, (_, y) in ends.items()]
        if teacher is not None:
            axes.axhline(teacher * unit, color=COLOURS["teacher"], linewidth=1, linestyle=(0, (1, 2)))
            labels.append((teacher * unit, "teacher", "teacher"))
        axes.set_xlabel("epoch")
        axes.set_ylabel(words.axis(record.metric))
        _whole_epochs(axes)
        _ends(axes, labels)

    said = [f"{role} {words.score((y,), record.metric)} after epoch {x:g}" for role, (x, y) in ends.items()]
    if teacher is not None:
        said.append(f"teacher {words.score((teacher,), record.metric)}")
    alt = f"{record.metric} on the test set by epoch: " + ", ".join(said)
    several = max(len(found) for found in curves.values()) > 1
    note = "Thick: mean over seeds; thin: each seed." if several else "One seed."
    return Figure(f"{record.metric.capitalize()} by epoch", alt, note, draw("learning", alt, paint))


def variants(records: Sequence[Record]) -> Figure | None:
    """The gain over the control by epoch, a line for each method, mean over seeds.

    The metric itself would put all lines on top of each other.
    """
    lines = {record.name: _ahead(record) for record in records[:MOST_VARIANTS]}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        return None
    metric = records[0].metric
    unit = 100 if words.percent(metric) else 1
    looks = [(c, s) for s in ("-", (0, (5, 2)), (0, (1, 1.5))) for c in VARIANT_COLOURS]
    colours = {name: COLOURS[look[0]] for name, look in zip(lines, looks, strict=False)}

    def paint(axes: Any) -> None:
        axes.axhline(0, color=COLOURS["muted"], linewidth=1)
        for points, (colour, style) in zip(lines.values(), looks, strict=False):
            alone = "o" if len(points) == 1 else ""
            axes.plot(*_xy(points, unit), color=COLOURS[colour], linestyle=style, linewidth=1.4, marker=alone)
        axes.set_xlabel("epoch")
        axes.set_ylabel("ahead of the control" + (", points" if unit == 100 else ""))
        _whole_epochs(axes)
        ends = [(points[-1][1] * unit, words.short(name, 18), name) for name, points in lines.items()]
        _ends(axes, ends, colours)

    alt = f"{metric} ahead of the control after the last epoch: " + "; ".join(
        f"{name} {words.gain(points[-1][1], metric)}" for name, points in lines.items()
    )
    note = "Mean over seeds. Methods often lead early and are caught up later."
    if len(records) > MOST_VARIANTS:
        note += f" The first {MOST_VARIANTS} of {len(records)}."
    height = max(260, 60 + 13 * len(lines))
    return Figure("Lead over the control by epoch", alt, note, draw("variants", alt, paint, height=height))


def _ahead(record: Record) -> Points:
    """Student minus control by epoch, the mean over the seeds that have both."""
    found = {
        role: {s.seed: s.scores for s in record.series if s.role == role} for role in ("control", "student")
    }
    pairs = [
        [(x, y - before[x]) for x, y in points if x in before]
        for seed, points in found["student"].items()
        if (before := dict(found["control"].get(seed, ())))
    ]
    pairs = [points for points in pairs if points]
    return _mean(pairs) if pairs else []


def losses(record: Record) -> Figure | None:
    """The student's training loss by term, mean over seeds."""
    found = [s for s in record.series if s.role == "student" and s.losses]
    terms = {
        name: points
        for name, points in _terms(found).items()
        if name.partition(".")[0] not in record.beside  # the terms of its peers
        and not (record.beside and name == "loss")  # the sum over them all
    }
    if not terms:
        return None
    values = [y for points in terms.values() for _, y in points]
    log = min(values) > 0 and max(values) / min(values) > 30
    shown = ["loss"] * ("loss" in terms) + [t for t in terms if t != "loss"]
    left_out = len(shown) - 1 - MOST_TERMS
    shown = shown[: 1 + MOST_TERMS]
    colours = dict(
        zip(shown, [COLOURS[c] for c in ("student", "term1", "term2", "term3", "term4")], strict=False)
    )
    styles = dict(zip(shown, ["-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (3, 1))], strict=False))

    def paint(axes: Any) -> None:
        for term in shown:
            alone = "o" if len(terms[term]) == 1 else ""
            axes.plot(
                *_xy(terms[term]), color=colours[term], linestyle=styles[term], linewidth=1.6, marker=alone
            )
        if log:
            axes.set_yscale("log")
            _plain_powers(axes)
        axes.set_xlabel("epoch")
        axes.set_ylabel("training loss" + (" (log scale)" if log else ""))
        _whole_epochs(axes)
        named = [(terms[t][-1][1], "total" if t == "loss" else words.short(t, 20), t) for t in shown]
        _ends(axes, named, colours)

    said = ", ".join(f"{t} from {terms[t][0][1]:.3g} to {terms[t][-1][1]:.3g}" for t in shown)
    note = "Mean over seeds." if len(found) > 1 else "One seed."
    note += f" {left_out} further terms are in metrics.jsonl." if left_out > 0 else ""
    return Figure(
        "The student’s loss by term", said, note, draw("losses", f"Training loss by term: {said}", paint)
    )


def _terms(found: Sequence[Series]) -> dict[str, Points]:
    # What each of several teachers counts is written beside the losses, and is none.
    names = dict.fromkeys(t for series in found for t in series.losses if not t.startswith("weight."))
    return {term: _mean([s.losses[term] for s in found if term in s.losses]) for term in names}


def _ends(axes: Any, labels: Sequence[tuple[float, str, str]], colours: Mapping[str, str] = COLOURS) -> None:
    """Names the lines at their right ends, moved apart where they would touch."""
    figure = axes.figure
    figure.draw_without_rendering()
    heights = [float(axes.transData.transform((1, y))[1]) for y, _, _ in labels]
    points = 72 / figure.dpi
    for (y, text, key), height, goal in zip(labels, heights, spread_out(heights, 11.5 / points), strict=True):
        axes.annotate(
            text, (1, y), (4, (goal - height) * points), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", color=colours[key], annotation_clip=False,
        )  # fmt: skip


def _plain_powers(axes: Any) -> None:
    """Ticks on a logarithmic axis as plain numbers; the default writes powers as formulas."""
    from matplotlib.ticker import LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axes.yaxis.set_minor_formatter(lambda y, _: "")


def _whole_epochs(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.margins(x=0.02)


def _mean(curves: Sequence[Points]) -> Points:
    """The mean by epoch, over the epochs that every curve has."""
    tables = [dict(curve) for curve in curves]
    shared = sorted(set.intersection(*(set(table) for table in tables))) or sorted(tables[0])
    return [(x, sum(t[x] for t in tables if x in t) / sum(x in t for t in tables)) for x in shared]


def _xy(points: Points, unit: float = 1) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y * unit for _, y in points]
