"""Student against control, and quality against cost: each gives a `Figure`, or None for lack of numbers."""

import re
from collections.abc import Sequence
from typing import Any

from limbeck.report import words
from limbeck.report.charts import COLOURS, Figure, Label, draw, place
from limbeck.report.record import Record, Row
from limbeck.report.values import mean

__all__ = ["against", "agreement", "by_class", "by_seed", "gains"]

MARKERS = {"teacher": "s", "control": "o", "student": "o"}
MOST_SEEDS = 12
MOST_CLASSES = 12


def by_seed(record: Record) -> Figure | None:
    """Control and student of each seed, side by side: the pairs that the gain is made of."""
    student, control = record.rows.get("student"), record.rows.get("control")
    if student is None or control is None:
        return None
    seeds = record.seeds or tuple(range(len(student.score)))
    rows = [
        (f"seed {seed}", a, b)
        for seed, a, b in zip(seeds, control.score, student.score, strict=False)
        if a is not None and b is not None
    ]
    if not rows:
        return None
    alt = f"{record.metric} by seed: " + "; ".join(
        f"{name}, control {words.score((a,), record.metric)}, student {words.score((b,), record.metric)}"
        for name, a, b in rows
    )
    note = "Each pair starts from the same weights and sees the same data in the same order."
    if len(rows) > MOST_SEEDS:
        note += f" The first {MOST_SEEDS} of {len(rows)} seeds."
    svg = _pairs("by-seed", alt, rows[:MOST_SEEDS], record.metric)
    return Figure("Seed by seed", alt, note, svg)


def by_class(record: Record) -> Figure | None:
    """Accuracy of each class, control against student; of many classes those that changed most."""
    student, control = record.rows.get("student"), record.rows.get("control")
    if student is None or control is None or not student.per_class:
        return None
    if len(student.per_class) != len(control.per_class):
        return None
    pairs = zip(control.per_class, student.per_class, strict=True)
    names = record.classes if len(record.classes) == len(student.per_class) else ()
    rows = [(words.short(names[i], 20) if names else f"class {i}", a, b) for i, (a, b) in enumerate(pairs)]
    note = "Mean over seeds."
    if len(rows) > MOST_CLASSES:
        note += f" The {MOST_CLASSES} of {len(rows)} classes that differ most."
        rows = sorted(rows, key=lambda row: -abs(row[2] - row[1]))[:MOST_CLASSES]
    rows.sort(key=lambda row: row[1] - row[2])
    alt = "Accuracy by class, student minus control: " + "; ".join(
        f"{name} {words.gain(b - a, 'accuracy')}" for name, a, b in rows
    )
    return Figure("Class by class", alt, note, _pairs("by-class", alt, rows, "accuracy"))


def _pairs(name: str, alt: str, rows: Sequence[tuple[str, float, float]], metric: str) -> Any:
    unit = 100 if words.percent(metric) else 1

    def paint(axes: Any) -> None:
        for level, (_, a, b) in enumerate(rows):
            axes.plot([a * unit, b * unit], [level, level], color=COLOURS["muted"], linewidth=1)
        at = range(len(rows))
        axes.plot(
            [r[1] * unit for r in rows],
            at,
            "o",
            color=COLOURS["control"],
            markerfacecolor=COLOURS["paper"],
            ms=6,
        )
        axes.plot([r[2] * unit for r in rows], at, "o", color=COLOURS["student"], ms=6)
        for level, (_, a, b) in enumerate(rows):
            axes.annotate(
                words.points(b - a, metric), (1, level), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(list(at), [r[0] for r in rows])
        axes.set_ylim(len(rows) - 0.4, -0.9)
        axes.margins(x=0.08)
        axes.set_xlabel(words.axis(metric))
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        if unit == 100:
            axes.annotate(
                "points", (1, 1), (4, 5), xycoords="axes fraction", textcoords="offset points",
                color=COLOURS["muted"],
            )  # fmt: skip
        _key(axes, [("control", "control"), ("student", "student")])

    return draw(name, alt, paint, height=110 + 26 * max(len(rows), 3))


def _key(axes: Any, entries: Sequence[tuple[str, str]]) -> None:
    """A key above the drawing, for figures in which a label at every mark would be noise."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker="o", ms=6, color=COLOURS[colour], label=text,
               markerfacecolor=COLOURS["paper" if colour == "control" else colour])
        for colour, text in entries
    ]  # fmt: skip
    axes.legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(handles), frameon=False,
        borderpad=0, handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip


def against(record: Record, what: str) -> Figure | None:
    """The metric against `bytes` or `latency` for teacher, control, student and exports."""
    unit = 100 if words.percent(record.metric) else 1
    show = words.size if what == "bytes" else words.latency
    title = "size" if what == "bytes" else "latency"
    found = [
        (row, x, y)
        for row in record.costs().values()
        if (x := getattr(row, what)) and (y := mean(row.score)) is not None
    ]
    if len({x for _, x, _ in found}) < 2:
        return None

    def paint(axes: Any) -> None:
        for row, x, y in found:
            colour, hollow = _colour(row), row.key == "control"
            several = [s * unit for s in row.score if s is not None]
            axes.plot([x, x], [min(several), max(several)], color=colour, linewidth=1)
            marker = MARKERS.get(row.key, "D")
            face = COLOURS["paper"] if hollow else colour
            axes.plot(
                [x], [y * unit], marker, color=colour, markerfacecolor=face, ms=5.5 if row.export else 6.5
            )
        axes.set_xscale("log")
        _round_ticks(axes, [x for _, x, _ in found], show)
        axes.margins(x=0.14, y=0.2)
        axes.set_xlabel(f"{'stored size' if what == 'bytes' else 'latency'} (log scale)")
        axes.set_ylabel(words.axis(record.metric))
        place(axes, [Label(x, y * unit, row.label, _colour(row)) for row, x, y in found])

    alt = f"{record.metric} against {title}: " + "; ".join(
        f"{row.label} {words.score((y,), record.metric)} at {show(x)}" for row, x, y in found
    )
    several = any(len(row.score) > 1 for row, _, _ in found)
    note = "Up and to the left is better." + (" Bars: lowest to highest seed." if several else "")
    return Figure(
        f"{record.metric.capitalize()} against {title}", alt, note, draw(f"against-{what}", alt, paint)
    )


def agreement(record: Record) -> Figure | None:
    """How often each network gives the teacher's answer, a dot for each seed."""
    # A file's agreement is with the student that it was made from: another matter, told in the notes.
    rows = [
        row
        for row in record.rows.values()
        if mean(row.agreement) is not None and row.key != "teacher" and not row.export
    ]
    if sum(len(row.agreement) for row in rows) < 2:  # one number needs no drawing
        return None

    def paint(axes: Any) -> None:
        for at, row in enumerate(rows):
            values = [100 * v for v in row.agreement if v is not None]
            centre, colour = 100 * (mean(row.agreement) or 0.0), _colour(row)
            axes.plot(values, [at] * len(values), "o", color=colour, alpha=0.5, ms=4, markeredgewidth=0)
            axes.plot([centre], [at], "|", color=colour, ms=15, markeredgewidth=2)
            axes.annotate(
                f"{centre:.1f} %", (1, at), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [_name(row) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.1)
        axes.set_xlabel("samples with the teacher’s answer, %")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)

    alt = "Agreement with the teacher: " + ", ".join(
        f"{_name(r)} {words.score(r.agreement, 'agreement')}" for r in rows
    )
    note = (
        "Bar: mean over seeds; dots: each seed." if max(len(r.agreement) for r in rows) > 1 else "One seed."
    )
    return Figure(
        "Agreement with the teacher",
        alt,
        note,
        draw("agreement", alt, paint, height=110 + 30 * max(len(rows), 3)),
    )


def gains(records: Sequence[Record], title: str = "Gain by run") -> Figure | None:
    """The gain of several runs (or methods) with their intervals, under each one's name."""
    rows = [(record, record.gain) for record in records if record.gain is not None]
    if not rows:
        return None
    metric = rows[0][0].metric
    unit = 100 if words.percent(metric) else 1

    def paint(axes: Any) -> None:
        axes.axvline(0, color=COLOURS["muted"], linewidth=1)
        for at, (record, gain) in enumerate(rows):
            if gain.interval is not None:
                axes.plot(
                    [v * unit for v in gain.interval], [at, at], color=COLOURS["student"], linewidth=1.8
                )
            face = COLOURS["paper"] if gain.interval is None else COLOURS["student"]
            axes.plot([gain.mean * unit], [at], "o", color=COLOURS["student"], markerfacecolor=face, ms=6.5)
            axes.annotate(
                words.short(record.name, 44), (0, at), (0, 9), xycoords=("axes fraction", "data"),
                textcoords="offset points", annotation_clip=False,
                bbox={"facecolor": COLOURS["paper"], "edgecolor": "none", "pad": 1.5},
            )  # fmt: skip
            axes.annotate(
                words.points(gain.mean, metric), (1, at), (4, 0), xycoords=("axes fraction", "data"),
                textcoords="offset points", va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.8)
        axes.margins(x=0.1)
        axes.set_xlabel("gain over the control" + (", points" if unit == 100 else ""))
        axes.spines["left"].set_visible(False)

    said = []
    for record, gain in rows:
        span = words.interval(gain, metric)
        said.append(
            f"{record.name} {words.gain(gain.mean, metric)}" + (f" ({span})" if span else " (no interval)")
        )
    alt = "Gain over the control: " + "; ".join(said)
    note = "Line: 95 % interval over seeds; a hollow point has none. Right of zero, distilling helped."
    return Figure(title, alt, note, draw("gains", alt, paint, height=70 + 42 * max(len(rows), 3)))


def _round_ticks(axes: Any, values: Sequence[float], show: Any) -> None:
    """Ticks at 1, 2, 5 times a power of ten, thinned until they leave room for their labels."""
    from math import ceil, floor, log10

    low, high = min(values) / 1.6, max(values) * 1.6
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) <= 5:
            break
    axes.set_xticks(ticks[:: ceil(len(ticks) / 5) or 1], minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(
        lambda x, _: re.sub(r"\.?0+(?=\s)", "", text) if "." in (text := show(x)) else text
    )


def _colour(row: Row) -> str:
    return COLOURS[row.key if row.key in MARKERS else "term1"]


def _name(row: Row) -> str:
    return row.label if row.export else row.key
