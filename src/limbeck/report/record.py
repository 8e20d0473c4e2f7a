"""What a finished run left behind, read from its folder.

A report must come out of every run, also of one without a control, with one seed, with no exports or with a
metric of its own. So everything but `result.json` may be missing here: a number that is absent, null or not
finite is None, and the page leaves it out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from limbeck.errors import InputError
from limbeck.report.series import Series, series_of
from limbeck.report.values import listing, mapping, number, plain, total, values

__all__ = ["Gain", "Record", "Row", "Series", "failures", "parts", "read", "result_of", "row_of"]

OWN = ("teacher", "control", "student", "ensemble")
"""Networks of a result, which are no exports."""
LABELS = {key: key.capitalize() for key in OWN} | {"onnx": "ONNX", "int8": "int8"}
BESIDE = ("peers", "exits")
"""What results call networks that learned beside the student."""
RUN_FILES = "recipe.yaml, result.json and metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """One network, or one exported file.

    Attributes:
        key: teacher, control, student, or the name of an export.
        score: the run's metric for each seed; one value for teacher and exports.
        best: the metric of the best epoch for each seed, as the literature reports it.
        agreement: share of samples with the teacher's answer, in [0, 1], for each seed.
        ece: expected calibration error in [0, 1], for each seed.
        per_class: accuracy of each class in [0, 1], the mean over seeds.
        bytes: size of the stored weights or of the file.
        latency: milliseconds for one sample.
        metrics: further figures by name, for each seed.
        checkpoints: for each seed, the weights that could be taken, with their figures.
    """

    key: str
    score: tuple[float | None, ...] = ()
    best: tuple[float | None, ...] = ()
    agreement: tuple[float | None, ...] = ()
    ece: tuple[float | None, ...] = ()
    per_class: tuple[float, ...] = ()
    parameters: int | None = None
    bytes: int | None = None
    latency: float | None = None
    file: str | None = None
    metrics: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)
    checkpoints: tuple[Mapping[str, Any], ...] = ()

    @property
    def label(self) -> str:
        return LABELS.get(self.key, self.key)

    @property
    def export(self) -> bool:
        return self.key not in OWN


@dataclass(frozen=True, slots=True)
class Gain:
    """Student minus control, paired by seed: mean, 95 % interval (None with one seed), number of seeds."""

    mean: float
    interval: tuple[float, float] | None
    seeds: int


@dataclass(frozen=True, slots=True)
class Record:
    """A run, as its folder tells it.

    Attributes:
        rows: teacher, control, student and the exports, as far as there are any.
        beside: other networks that learned with the student: its peers, its exits.
        teachers: each of several teachers; `rows` has them together.
        weights: the mean weight of each of them, by seed.
    """

    name: str
    version: str
    metric: str
    seeds: tuple[int, ...]
    rows: Mapping[str, Row]
    gain: Gain | None
    seconds: Mapping[str, float]
    environment: Mapping[str, str]
    others: Mapping[str, str]
    series: tuple[Series, ...]
    recipe: str
    settings: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    beside: Mapping[str, Row] = field(default_factory=dict)
    tasks: Mapping[str, Any] = field(default_factory=dict)
    exits: Mapping[str, Any] = field(default_factory=dict)
    early_exit: Any = None
    teachers: Mapping[str, Row] = field(default_factory=dict)
    weights: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def epochs(self) -> int | None:
        """Epochs that the recipe asked for; None when it does not say."""
        train = self.settings.get("train")
        found = number(train.get("epochs")) if isinstance(train, Mapping) else None
        return None if found is None else int(found)

    def costs(self) -> dict[str, Row]:
        """The rows; a control without size and speed has the student's, for it is the same network."""
        rows = dict(self.rows)
        if (control := rows.get("control")) and (student := rows.get("student")):
            rows["control"] = replace(
                control,
                parameters=control.parameters or student.parameters,
                bytes=control.bytes or student.bytes,
                latency=control.latency or student.latency,
            )
        return rows


def read(run: Path) -> Record:
    """Reads a run folder.

    Raises:
        InputError: the folder or its `result.json` is missing or cannot be read.
    """
    run = Path(run)
    result = result_of(run)
    metric = str(result.get("metric") or "accuracy")
    parts = {key: result.get(key) for key in OWN}
    exports = result.get("exports")
    parts |= exports if isinstance(exports, Mapping) else {}
    rows = {key: row_of(key, part, metric) for key, part in parts.items() if isinstance(part, Mapping)}
    several = {k: part for k, part in mapping(result.get("teachers")).items() if isinstance(part, Mapping)}
    recipe = _text(run / "recipe.yaml")
    return Record(
        name=str(result.get("name") or run.resolve().name),
        version=str(result.get("limbeck") or ""),
        metric=metric.replace("_", " "),
        seeds=tuple(int(s) for s in listing(result.get("seeds")) if number(s) is not None),
        rows=rows,
        gain=_gain(result.get("gain")),
        seconds={k: s for k, v in mapping(result.get("seconds")).items() if (s := total(v)) is not None},
        environment={str(k): plain(v) for k, v in mapping(result.get("environment")).items()},
        others={str(k): plain(v) for k, v in mapping(result.get("metrics")).items()},
        series=series_of(_text(run / "metrics.jsonl"), metric),
        recipe=recipe,
        settings=_settings(recipe),
        classes=tuple(map(str, listing(result.get("classes")))),
        beside={
            str(name): row_of(str(name), part, metric)
            for word in BESIDE
            for name, part in mapping(result.get(word)).items()
            if isinstance(part, Mapping)
        },
        tasks=mapping(result.get("tasks")),
        exits=mapping(result.get("exits")),
        early_exit=result.get("early_exit"),
        teachers={str(name): row_of("teacher", part, metric) for name, part in several.items()},
        weights={str(name): values(part.get("weight")) for name, part in several.items()},
    )


def parts(run: Path) -> dict[str, tuple[Row, Gain | None]]:
    """The variants of a comparison, each with its gain over the common control; empty for a plain run.

    Raises:
        InputError: as `read`.
    """
    result = result_of(Path(run))
    metric = str(result.get("metric") or "accuracy")
    return {
        str(name): (row_of("student", part, metric), _gain(part.get("gain")))
        for name, part in mapping(result.get("variants")).items()
        if isinstance(part, Mapping)
    }


def failures(run: Path) -> dict[str, str]:
    """The variants of a comparison that have no figures, each with the reason."""
    variants = mapping(result_of(Path(run)).get("variants"))
    found = {str(name): mapping(part).get("failed") for name, part in variants.items()}
    return {name: " ".join(map(str, said)) for name, said in found.items() if isinstance(said, list)}


def result_of(run: Path) -> dict[str, Any]:
    """What `result.json` of a run holds.

    Raises:
        InputError: as `read`.
    """
    path = run / "result.json"
    if not run.is_dir():
        raise InputError(f"{run}: not a run folder (a folder with {RUN_FILES}).")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{run}: no result.json; the run has not finished, or this is no run folder."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(result, dict):
        raise InputError(f"{path}: must hold one JSON object, holds a {type(result).__name__}.")
    return result


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _settings(recipe: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(recipe)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def row_of(key: str, part: Mapping[str, Any], metric: str) -> Row:
    """One network's entry in `result.json`."""
    parameters, size = number(part.get("parameters")), number(part.get("bytes"))
    return Row(
        key=key,
        score=values(part.get(metric)),
        best=values(part.get("best")),
        agreement=values(part.get("agreement")),
        ece=values(part.get("ece")),
        per_class=_classes(part.get("per_class")),
        parameters=None if parameters is None else int(parameters),
        bytes=None if size is None else int(size),
        latency=number(part.get("latency_ms")),
        file=str(part["file"]) if part.get("file") else None,
        metrics={str(name): values(found) for name, found in mapping(part.get("metrics")).items()},
        checkpoints=tuple(mapping(entry) for entry in listing(part.get("checkpoints"))),
    )


def _classes(value: object) -> tuple[float, ...]:
    """Accuracy by class; a list for each seed is averaged. Classes without samples count as absent: ()."""
    rows = listing(value)
    if rows and all(isinstance(r, list) for r in rows) and len({len(r) for r in rows}) == 1:
        rows = [number(list(column)) for column in zip(*rows, strict=True)]
    found = [number(v) for v in rows]
    return tuple(v for v in found if v is not None) if None not in found else ()


def _gain(value: object) -> Gain | None:
    centre = number(mapping(value).get("mean"))
    if centre is None:
        return None
    ends = [number(v) for v in listing(mapping(value).get("interval"))]
    low, high = ends if len(ends) == 2 else (None, None)
    interval = (low, high) if low is not None and high is not None else None
    return Gain(centre, interval, int(number(mapping(value).get("seeds")) or 1))
