"""Drawing for a page that has a light and a dark face: SVG with text as text and colours as CSS variables.

Every figure is about as wide as a telephone, so that its letters keep their size there; wider pages put two
side by side. Figures are drawn without pyplot: no global state, no display, the same bytes for the same data.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

__all__ = ["COLOURS", "WIDTH", "Figure", "Label", "draw", "place", "spread_out"]

WIDTH = 400
"""Width of a figure in px at its natural size."""

# Any distinct values do: `draw` turns each into the CSS variable of its name. Blue against vermilion stays
# apart for every kind of colour vision; markers and line styles say the same once more.
COLOURS = {
    "ink": "#1c2128",
    "muted": "#59636e",
    "grid": "#e3e6ea",
    "paper": "#fffffe",
    "teacher": "#4a515a",
    "control": "#b84a00",
    "student": "#0a66a8",
    "term1": "#00735a",
    "term2": "#93407a",
    "term3": "#806000",
    "term4": "#4b57c4",
}

_RC = {
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "text.parse_math": False,
    "text.usetex": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the page: title, what it shows (for those who cannot see it), a note, the drawing."""

    title: str
    alt: str
    note: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class Label:
    """A label that belongs to the point (x, y), both in data coordinates."""

    x: float
    y: float
    text: str
    colour: str


def draw(name: str, alt: str, paint: Callable[[Any], None], *, height: float = 270) -> Markup:
    """Calls `paint(axes)` and gives the drawing as an inline `<svg>`.

    Args:
        name: unique on the page; keeps the ids of several drawings apart.
        alt: what the drawing says, for screen readers.
        height: in px at the natural size of `WIDTH`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context({**_RC, "svg.hashsalt": name}), warnings.catch_warnings():
        # A letter that the measuring font lacks is still written as text; the browser has a font for it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Canvas(figsize=(WIDTH / 96, height / 96), layout="constrained", facecolor="none")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        paint(axes)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _inline(stream.getvalue(), name, alt)


def _inline(svg: str, name: str, alt: str) -> Markup:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    for variable, value in COLOURS.items():
        svg = svg.replace(value, f"var(--{variable})")
    head = re.match(r"<svg\b[^>]*>", svg)
    assert head is not None
    box = re.search(r'viewBox="[^"]+"', head.group())
    assert box is not None
    opening = f'<svg {box.group()} role="img" aria-label="{escape(alt)}">'
    # Safe to pass on: matplotlib escapes every text that it writes, and `alt` is escaped here.
    return Markup(opening + svg[head.end() :])


def spread_out(wanted: Sequence[float], gap: float) -> list[float]:
    """Moves positions as little as needed to stand at least `gap` apart, in their order."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    groups: list[list[float]] = []  # [centre, members], merged while neighbours touch
    for i in order:
        groups.append([wanted[i], 1])
        while len(groups) > 1 and groups[-1][0] - groups[-2][0] < gap * (groups[-1][1] + groups[-2][1]) / 2:
            centre, members = groups.pop()
            before, others = groups.pop()
            total = members + others
            groups.append([(centre * members + before * others) / total, total])
    places = [
        centre + gap * (k - (members - 1) / 2) for centre, members in groups for k in range(int(members))
    ]
    result = [0.0] * len(wanted)
    for i, position in zip(order, places, strict=True):
        result[i] = position
    return result


def place(axes: Any, labels: Sequence[Label]) -> None:
    """Writes each label beside its point, where it covers neither another label nor a point."""
    from matplotlib.transforms import Bbox

    figure = axes.figure
    figure.draw_without_rendering()
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    scale = figure.dpi / 72
    centres = [axes.transData.transform((label.x, label.y)) for label in labels]
    taken = [
        Bbox.from_extents(x - 5 * scale, y - 5 * scale, x + 5 * scale, y + 5 * scale) for x, y in centres
    ]
    offsets = [(dx, dy) for far in (0, 10, 20, 32) for dy in (0, far, -far) for dx in (8, -8)]
    offsets += [(0, dy) for dy in (12, -12, 24, -24)]
    for label in labels:
        best: tuple[float, Any, Any] | None = None
        for dx, dy in offsets:
            text = axes.annotate(
                label.text, (label.x, label.y), (dx, dy), textcoords="offset points", color=label.colour,
                va="center", ha="left" if dx > 0 else "right" if dx < 0 else "center",
            )  # fmt: skip
            text.set_in_layout(False)
            box = text.get_window_extent(renderer)
            outside = (
                max(0, frame.x0 - box.x0) + max(0, box.x1 - frame.x1 - 4) + max(0, box.y1 - frame.y1 - 6)
            )
            cost = 50 * outside + sum(_overlap(box, other) for other in taken) + abs(dy) * 0.01
            if best is None or cost < best[0]:
                if best is not None:
                    best[1].remove()
                best = (cost, text, box)
            else:
                text.remove()
            if cost < 1:
                break
        assert best is not None
        taken.append(best[2])
        if abs(best[1].xyann[1]) > 12:
            _lead(axes, label, best[1].xyann)


def _overlap(a: Any, b: Any) -> float:
    wide = min(a.x1, b.x1) - max(a.x0, b.x0)
    high = min(a.y1, b.y1) - max(a.y0, b.y0)
    return float(wide * high) if wide > 0 and high > 0 else 0.0


def _lead(axes: Any, label: Label, offset: tuple[float, float]) -> None:
    """A thin line from a point to its label, where the label had to move away."""
    axes.annotate(
        "",
        (label.x, label.y),
        offset,
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": COLOURS["muted"], "linewidth": 0.5, "shrinkB": 3},
    )
