"""Numbers carry the right unit, and the verdict says no more than the run shows."""

import pytest

from limbeck.report import words
from limbeck.report.record import Gain


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (371_000, "371 kB"),
        (999_800, "1.00 MB"),
        (3_412_072, "3.41 MB"),
    ],
)
def test_sizes_are_decimal_with_three_digits(value: int, text: str) -> None:
    assert words.size(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(853_018, "853,018"), (9_999_999, "9,999,999"), (25_557_032, "25.6 M"), (1_300_000_000, "1.30 G")],
)
def test_counts_are_exact_until_they_get_long(value: int, text: str) -> None:
    assert words.count(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(6.0, "6.00 ms"), (12.34, "12.3 ms"), (1234.5, "1,234 ms"), (0.042, "42.0 µs"), (0.4, "0.400 ms")],
)
def test_latency_in_ms_or_microseconds(value: float, text: str) -> None:
    assert words.latency(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599.9, "1 h 0 min"),
        (5520, "1 h 32 min"),
    ],
)
def test_durations_never_show_sixty(value: float, text: str) -> None:
    assert words.duration(value).replace("\u00a0", " ") == text


def test_score_is_mean_and_sample_deviation() -> None:
    assert words.score((0.91, 0.93), "accuracy").replace("\u00a0", " ") == "92.00 % ± 1.41"
    assert words.score((0.91, None), "accuracy").replace("\u00a0", " ") == "91.00 %"
    assert words.score((0.71, 0.73), "spearman").replace("\u00a0", " ") == "0.7200 ± 0.0141"
    assert words.score((None,), "accuracy") == words.score((), "accuracy") == ""


def test_signs_are_minus_signs_and_zero_has_none() -> None:
    assert words.points(0.008, "accuracy") == "+0.80"
    assert words.points(-0.008, "accuracy") == "\u22120.80"
    assert words.points(-0.00001, "accuracy") == words.points(0.00001, "accuracy") == "0.00"
    assert words.points(-0.5, "spearman") == "\u22120.5000"


@pytest.mark.parametrize(
    ("gain", "tone", "said"),
    [
        (Gain(0.008, (0.004, 0.012), 3), "good", "Distilling helped: the student ends 0.80"),
        (Gain(-0.008, (-0.012, -0.004), 3), "bad", "Distilling hurt: the student ends 0.80"),
        (Gain(0.003, (-0.004, 0.010), 3), "open", "No clear gain"),
        (Gain(-0.003, (-0.010, 0.004), 3), "open", "Distilling did not help"),
        (Gain(0.0, (-0.004, 0.004), 3), "open", "level with its control"),
        (Gain(0.008, None, 1), "open", "Not proven"),
        (Gain(-0.008, None, 1), "open", "Distilling did not help"),
        (Gain(0.008, None, 1), "open", "one seed: no interval"),
    ],
)
def test_verdict_follows_the_interval(gain: Gain, tone: str, said: str) -> None:
    found, sentence = words.judge(gain, "accuracy")
    assert (found, said in sentence) == (tone, True), sentence


def test_times_says_which_way_a_cost_went() -> None:
    assert words.times(300, 100, "smaller", "larger") == ("3.0×", "smaller")
    assert words.times(100, 140, "smaller", "larger") == ("1.4×", "larger")
    assert words.times(None, 140, "smaller", "larger") is None
