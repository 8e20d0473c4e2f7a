"""Labels stand where they can be read."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.report.charts import Label, draw, place, spread_out


@given(st.lists(st.floats(-1000, 1000), max_size=12), st.floats(0.5, 30))
def test_spread_out_keeps_order_and_distance(wanted: list[float], gap: float) -> None:
    places = spread_out(wanted, gap)
    ordered = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert all(places[b] - places[a] >= gap - 1e-6 for a, b in pairwise(ordered))


def test_spread_out_leaves_what_is_apart() -> None:
    assert spread_out([10.0, 0.0, 30.0], 5) == [10.0, 0.0, 30.0]
    assert spread_out([0.0, 0.0], 4) == [-2.0, 2.0]


@pytest.mark.parametrize("count", [2, 4])
def test_labels_of_points_at_one_place_do_not_overlap(count: int) -> None:
    boxes: list[Any] = []

    def paint(axes: Any) -> None:
        axes.plot([0, 1], [0, 1])
        place(axes, [Label(0.5, 0.5, f"network {i}", "#1c2128") for i in range(count)])
        renderer = axes.figure.canvas.get_renderer()
        boxes.extend(text.get_window_extent(renderer) for text in axes.texts if text.get_text())

    draw("test", "alt", paint)
    assert len(boxes) == count
    apart = [a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
             for i, a in enumerate(boxes) for b in boxes[:i]]  # fmt: skip
    assert all(apart)


def test_the_alternative_text_is_escaped() -> None:
    svg = draw("test", '"><script>', lambda axes: None)
    assert svg.startswith("<svg ")
    assert "<script>" not in svg
