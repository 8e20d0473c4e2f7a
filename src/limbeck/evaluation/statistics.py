"""What several seeds say together: the mean with its spread, and the paired gain over the control.

The student and the control of one seed start from the same weights and see the same order of samples, so
their difference is taken by seed (paired); what all seeds share cancels. The interval is Student's t
interval of the mean difference, which holds for few seeds when the differences are about normal.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from limbeck.errors import InputError

__all__ = ["Gain", "mean_spread", "paired_interval"]


@dataclass(frozen=True, slots=True)
class Gain:
    """The student's metric minus its control's.

    Attributes:
        mean: mean difference over the seeds, in the metric's own unit (.01 is a point of accuracy).
        interval: lower and upper end of the t interval of the mean; None with one seed.
        seeds: number of pairs.
    """

    mean: float
    interval: tuple[float, float] | None
    seeds: int

    def to_json(self) -> dict[str, object]:
        """The entry `gain` of `result.json`."""
        interval = None if self.interval is None else list(self.interval)
        return {"mean": self.mean, "interval": interval, "seeds": self.seeds}


def paired_interval(control: Sequence[float], student: Sequence[float], confidence: float = 0.95) -> Gain:
    """The mean of student - control over the seeds, with its t interval.

    Args:
        control: the control's metric, one value for each seed.
        student: the student's, in the same order of seeds.
        confidence: share of such intervals that hold the true mean, in (0, 1).

    Raises:
        InputError: no values, unequal numbers of values, values that are not finite, or a confidence
            outside (0, 1).
    """
    if len(control) != len(student) or not control:
        raise InputError(
            "a paired interval needs one control and one student value for each seed; "
            f"got {len(control)} and {len(student)}"
        )
    if not 0 < confidence < 1:
        raise InputError(f"confidence must lie between 0 and 1; got {confidence}")
    gains = [after - before for before, after in zip(control, student, strict=True)]
    if not all(map(math.isfinite, gains)):
        raise InputError("a paired interval needs finite values; got " + repr([*control, *student]))
    mean = statistics.fmean(gains)
    if len(gains) == 1:
        return Gain(mean, None, 1)
    from scipy import stats  # slow to import, and needed once a run

    quantile = float(stats.t.ppf((1 + confidence) / 2, len(gains) - 1))
    half = quantile * statistics.stdev(gains) / math.sqrt(len(gains))
    return Gain(mean, (mean - half, mean + half), len(gains))


def mean_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (divided by n - 1); the latter is None for a single value.

    Raises:
        InputError: there are no values.
    """
    if not values:
        raise InputError("a mean needs at least one value; got none")
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
