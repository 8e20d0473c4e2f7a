"""The curves of a run, read from its metrics.jsonl."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from limbeck.report.values import mapping, number

__all__ = ["Series", "series_of"]


@dataclass(frozen=True, slots=True)
class Series:
    """What one training logged by epoch: `scores` [(epoch, metric)] and `losses` {term: [(epoch, value)]}."""

    role: str
    seed: int
    scores: tuple[tuple[float, float], ...]
    losses: Mapping[str, tuple[tuple[float, float], ...]]


def series_of(text: str, metric: str) -> tuple[Series, ...]:
    """Curves by role and seed. A torn line is skipped; after a resume the later line of an epoch counts."""
    lines: dict[tuple[str, int], dict[float, dict[str, Any]]] = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        epoch = number(mapping(entry).get("epoch"))
        if mapping(entry).get("trains") == "layers":
            continue  # epochs in which no network learned
        if epoch is not None:
            key = (str(entry.get("role", "")), int(number(entry.get("seed")) or 0))
            lines.setdefault(key, {}).setdefault(epoch, {}).update(entry)
    return tuple(_one(role, seed, epochs, metric) for (role, seed), epochs in lines.items())


def _one(role: str, seed: int, epochs: Mapping[float, Mapping[str, Any]], metric: str) -> Series:
    scores: list[tuple[float, float]] = []
    losses: dict[str, list[tuple[float, float]]] = {}
    for epoch, entry in sorted(epochs.items()):
        further = mapping(entry.get("metrics")).get(metric)  # a teacher of one task among two has no such
        if (
            score := number(entry.get(metric, entry.get("accuracy") if further is None else further))
        ) is not None:
            scores.append((epoch, score))
        for term, value in mapping(entry.get("losses")).items():
            if (loss := number(value)) is not None:
                losses.setdefault(str(term), []).append((epoch, loss))
    return Series(role, seed, tuple(scores), {term: tuple(points) for term, points in losses.items()})
