"""The paired gain equals the textbook's t interval, and one seed claims none."""

import math

import pytest

from limbeck.errors import InputError
from limbeck.evaluation.statistics import Gain, mean_spread, paired_interval


def test_interval_equals_the_textbook() -> None:
    """Three pairs: the 97.5 % quantile of t with 2 degrees of freedom is 4.30265 (any table)."""
    gain = paired_interval([0.90, 0.91, 0.92], [0.92, 0.92, 0.95])
    mean, spread = 0.02, 0.01  # of the differences .02, .01, .03
    half = 4.302652729911275 * spread / math.sqrt(3)
    assert gain.mean == pytest.approx(mean)
    assert gain.interval == pytest.approx((mean - half, mean + half))
    assert gain.seeds == 3


def test_pairing_cancels_what_all_seeds_share() -> None:
    """Metrics that vary much from seed to seed, with the same gain in each, leave no doubt."""
    gain = paired_interval([0.5, 0.7, 0.9], [0.51, 0.71, 0.91])
    assert gain.interval == pytest.approx((0.01, 0.01))


def test_confidence_widens_the_interval() -> None:
    control, student = [0.90, 0.91, 0.92], [0.92, 0.92, 0.95]
    narrow, wide = (paired_interval(control, student, level).interval for level in (0.8, 0.99))
    assert narrow is not None
    assert wide is not None
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_one_seed_has_a_mean_and_no_interval() -> None:
    gain = paired_interval([0.9], [0.88])
    assert gain == Gain(pytest.approx(-0.02), None, 1)
    assert gain.to_json() == {"mean": gain.mean, "interval": None, "seeds": 1}


def test_json_has_the_interval_as_a_list() -> None:
    assert Gain(0.1, (0.0, 0.2), 2).to_json() == {"mean": 0.1, "interval": [0.0, 0.2], "seeds": 2}


def test_mean_and_sample_spread() -> None:
    assert mean_spread([1.0, 2.0, 3.0, 4.0]) == (2.5, pytest.approx(math.sqrt(5 / 3)))
    assert mean_spread([2.0]) == (2.0, None)


@pytest.mark.parametrize(
    ("control", "student", "confidence", "message"),
    [
        ([], [], 0.95, "got 0 and 0"),
        ([0.5], [0.5, 0.6], 0.95, "got 1 and 2"),
        ([0.5], [math.nan], 0.95, "finite"),
        ([0.5, 0.5], [0.5, 0.6], 1.0, "confidence"),
    ],
)
def test_bad_values_are_named(
    control: list[float], student: list[float], confidence: float, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        paired_interval(control, student, confidence)
    with pytest.raises(InputError, match="at least one"):
        mean_spread([])
