"""What JSON may hold where a figure is expected, made safe: a number that is absent or not finite is None."""

import math
from collections.abc import Mapping
from typing import Any

__all__ = ["listing", "mapping", "mean", "number", "plain", "spread", "total", "values"]


def number(value: object) -> float | None:
    """A finite float, or None. A list gives the mean of its numbers, a measurement its median."""
    if isinstance(value, Mapping):
        value = value.get("median_ms", value.get("mean"))
    if isinstance(value, list):
        return mean(tuple(number(v) for v in value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def mean(values: tuple[float | None, ...]) -> float | None:
    """Mean of the values that are there; None when there is none."""
    there = [v for v in values if v is not None]
    return math.fsum(there) / len(there) if there else None


def spread(values: tuple[float | None, ...]) -> float | None:
    """Standard deviation over seeds (n - 1); None for fewer than two values."""
    there = [v for v in values if v is not None]
    if len(there) < 2:
        return None
    centre = math.fsum(there) / len(there)
    return math.sqrt(math.fsum((v - centre) ** 2 for v in there) / (len(there) - 1))


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def listing(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def values(value: object) -> tuple[float | None, ...]:
    """One value for each seed; a bare number is one value."""
    if isinstance(value, list):
        return tuple(number(v) for v in value)
    return () if number(value) is None else (number(value),)


def total(value: object) -> float | None:
    if isinstance(value, list):
        there = [v for v in map(number, value) if v is not None]
        return math.fsum(there) if there else None
    return number(value)


def plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(plain(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {plain(v)}" for k, v in value.items())
    return "" if value is None else str(value)
