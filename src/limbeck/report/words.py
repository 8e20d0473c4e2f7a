"""Numbers with their units, and the verdict in words.

Sizes are decimal (1 kB = 1000 bytes), gains of a share are in percentage points. Higher is better for every
metric that a gain is taken of.
"""

import re
from dataclasses import dataclass

from limbeck.report.record import Gain, Record, Row
from limbeck.report.values import mapping, mean, spread

__all__ = [
    "Verdict",
    "axis",
    "count",
    "duration",
    "gain",
    "interval",
    "judge",
    "latency",
    "percent",
    "points",
    "score",
    "short",
    "size",
    "taught",
    "times",
    "verdict",
]

NBSP = "\u00a0"
MINUS = "\u2212"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the run shows: `tone` (good, bad, open), one `sentence`, and what to know `beside` it."""

    tone: str
    sentence: str
    beside: str


def percent(metric: str) -> bool:
    """Whether a metric is a share in [0, 1] that people read as per cent."""
    shares = ("agreement", "ece", "f1", "miou", "precision", "recall", "specificity")
    return metric.endswith("accuracy") or metric in shares or bool(re.fullmatch("top[0-9]+", metric))


def axis(metric: str) -> str:
    """What an axis of the metric is called: "accuracy, %"."""
    return f"{metric}, %" if percent(metric) else metric


def short(text: str, most: int) -> str:
    """At most `most` letters of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def score(values: tuple[float | None, ...], metric: str) -> str:
    """ "92.04 % ± 0.12" (mean and standard deviation over seeds); empty when there is no value."""
    centre, width = mean(values), spread(values)
    if centre is None:
        return ""
    if percent(metric):
        around = "" if width is None else f" ±{NBSP}{100 * width:.2f}"
        return f"{100 * centre:.2f}{NBSP}%{around}"
    return _sign(f"{centre:.4f}") + ("" if width is None else f" ±{NBSP}{width:.4f}")


def points(value: float, metric: str) -> str:
    """A signed difference without its unit: "+0.80"."""
    text = f"{100 * value:+.2f}" if percent(metric) else f"{value:+.4f}"
    return _sign(text) if float(text) else text[1:]


def gain(value: float, metric: str) -> str:
    """A signed difference with its unit: "+0.80 points"."""
    return points(value, metric) + (f"{NBSP}points" if percent(metric) else "")


def interval(found: Gain, metric: str) -> str:
    """The 95 % interval: "+0.40 to +1.20"; empty when there is none."""
    return (
        f"{points(found.interval[0], metric)} to {points(found.interval[1], metric)}"
        if found.interval
        else ""
    )


def count(value: float | None) -> str:
    """A number of parameters: "853,018", from ten million on "25.6 M"."""
    if value is None:
        return ""
    for unit, scale in (("G", 1e9), ("M", 1e6)):
        if value >= 10 * scale or (unit == "G" and value >= scale):
            return f"{_three(value / scale)}{NBSP}{unit}"
    return f"{value:,.0f}"


def size(value: float | None) -> str:
    """A number of bytes: "270 kB", "3.41 MB"."""
    if value is None:
        return ""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale * 0.9995:
            return f"{_three(value / scale)}{NBSP}{unit}"
    return f"{value:.0f}{NBSP}B"


def latency(value: float | None) -> str:
    """Milliseconds as "6.00 ms", below a tenth as "42.0 µs"."""
    if value is None:
        return ""
    return f"{_three(value)}{NBSP}ms" if value >= 0.1 else f"{_three(1000 * value)}{NBSP}µs"


def duration(seconds: float) -> str:
    """Seconds as "12.3 s", "4 min 10 s", "1 h 32 min"."""
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest}{NBSP}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{NBSP}h {minutes}{NBSP}min"


def times(teacher: float | None, student: float | None, less: str, more: str) -> tuple[str, str] | None:
    """How a cost went down: ("3.2×", less), or up: ("1.4×", more); None when a side is not known."""
    if not teacher or not student:
        return None
    ratio = max(teacher, student) / min(teacher, student)
    return (f"{ratio:.1f}×" if ratio < 100 else f"{ratio:,.0f}×"), (less if student <= teacher else more)


def verdict(record: Record) -> Verdict:
    """The run's honest answer to "did distilling help?"."""
    student, control = record.rows.get("student"), record.rows.get("control")
    if student is None or mean(student.score) is None:
        return Verdict("open", "This run holds no score of a student, so there is nothing to judge.", "")
    reached = f"The student scores {score(student.score, record.metric)} {record.metric}"
    if record.epochs == 0:
        return Verdict(
            "open",
            "Nothing was trained: the recipe asks for 0 epochs.",
            f"{reached} with the weights that it started from.",
        )
    if record.gain is None:
        why = "was run without a control" if control is None else "holds no gain over its control"
        return Verdict("open", f"This run {why}, so it cannot say whether distilling helped.", f"{reached}.")
    tone, sentence = judge(record.gain, record.metric, *_sides(record))
    return Verdict(tone, sentence, _between(record, student, control, closing=tone == "good"))


def judge(
    found: Gain, metric: str, subject: str = "Distilling", control: str = "its control"
) -> tuple[str, str]:
    """Tone and sentence for a gain: it counts as shown only when its interval leaves zero out.

    Args:
        found: the gain.
        metric: of the run.
        subject: what is judged.
        control: what the student is held against.
    """
    amount = gain(abs(found.mean), metric).lstrip("+")
    side = "above" if found.mean > 0 else "below"
    flat = not float(points(found.mean, metric).replace(MINUS, "-"))
    versus = f"level with {control}" if flat else f"{amount} {side} {control}"
    if found.interval is None:
        seeds = "one seed" if found.seeds == 1 else f"{found.seeds} seeds"
        helped = f"{subject} did not help here" if flat or found.mean < 0 else "Not proven"
        return "open", f"{helped}: the student ends {versus} ({seeds}: no interval, so this may be chance)."
    span = f"(95{NBSP}% interval {interval(found, metric)}, {found.seeds} seeds)"
    if found.interval[0] > 0:
        return "good", f"{subject} helped: the student ends {versus} {span}."
    if found.interval[1] < 0:
        return "bad", f"{subject} hurt: the student ends {versus} {span}."
    if found.mean <= 0 or flat:
        return "open", f"{subject} did not help: the student ends {versus} {span}."
    return "open", f"No clear gain: the student ends {versus}, but the interval includes zero {span}."


def _sides(record: Record) -> tuple[str, str]:
    """What a run's gain judges, and what the student is held against."""
    own = mapping(record.settings.get("control"))
    if not record.settings.get("chain"):
        apart = bool(own.get("teacher"))
        return ("This teacher", "its control, which had another") if apart else ("Distilling", "its control")
    direct = own.get("teacher") or not own.get("objective")
    pair = "the direct pair" if taught(record) else "plain training"
    return "The chain", pair if direct else "its control"


def taught(record: Record) -> bool:
    """Whether the first link of a chain has a teacher."""
    chain = record.settings.get("chain")
    first = mapping(chain[0]) if isinstance(chain, list) and chain else {}
    return bool(record.settings.get("teacher") or first.get("teacher"))


def _between(record: Record, student: Row, control: Row | None, *, closing: bool) -> str:
    """Where student, control and teacher stand; if `closing`, how much of the gap is closed."""
    said = [f"student {score(student.score, record.metric)}"]
    if control is not None and control.score:
        said.append(f"control {score(control.score, record.metric)}")
    teacher = None if record.tasks else record.rows.get("teacher")  # which answers the old classes alone
    if teacher is None or mean(teacher.score) is None:
        return f"{record.metric.capitalize()}: {', '.join(said)}."
    said.append(f"teacher {score(teacher.score, record.metric)}")
    text = f"{record.metric.capitalize()}: {', '.join(said)}."
    base, top, own = mean(control.score) if control else None, mean(teacher.score), mean(student.score)
    if not closing or base is None or top is None or own is None or own <= base or top - base < 0.005:
        return text
    if own >= top:
        return f"{text} The student passes {'the first' if record.settings.get('chain') else 'its'} teacher."
    closed = 100 * (own - base) / (top - base)
    return f"{text} That closes {closed:.0f}{NBSP}% of the distance from control to teacher."


def _sign(text: str) -> str:
    return text.replace("-", MINUS)


def _three(value: float) -> str:
    """Three significant digits, never in exponent form."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"
