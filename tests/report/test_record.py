"""Run folders are read as they are: incomplete, resumed, torn, with a metric of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import InputError
from limbeck.report.record import read
from limbeck.report.values import number


def folder(tmp_path: Path, found: Any, lines: str = "", recipe: str | None = None) -> Path:
    (tmp_path / "result.json").write_text(json.dumps(found), encoding="utf-8")
    (tmp_path / "metrics.jsonl").write_text(lines, encoding="utf-8")
    if recipe is not None:
        (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return tmp_path


def test_an_empty_result_is_a_run_without_numbers(tmp_path: Path) -> None:
    record = read(folder(tmp_path, {}))
    assert (record.name, record.metric, record.rows, record.gain) == (tmp_path.name, "accuracy", {}, None)


def test_numbers_that_are_no_numbers_are_absent() -> None:
    assert [number(v) for v in (True, "1", None, float("nan"), float("inf"), [], {})] == [None] * 7
    assert number([1, None, 2]) == 1.5
    assert number({"median_ms": 2.5, "p95_ms": 9}) == 2.5


def test_the_later_line_of_an_epoch_counts_and_a_torn_line_is_skipped(tmp_path: Path) -> None:
    lines = [{"role": "student", "seed": 0, "epoch": e, "accuracy": a, "losses": {"loss": a}}
             for e, a in ((1, 0.1), (2, 0.2), (2, 0.25))]  # fmt: skip
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"role": "stud'
    (series,) = read(folder(tmp_path, {}, text)).series
    assert series.scores == ((1, 0.1), (2, 0.25))
    assert series.losses == {"loss": ((1, 0.1), (2, 0.25))}


def test_epochs_come_from_the_recipe(tmp_path: Path) -> None:
    assert read(folder(tmp_path, {}, recipe="train: {epochs: 0}")).epochs == 0
    assert read(folder(tmp_path, {}, recipe="train: [")).epochs is None
    assert read(folder(tmp_path, {}, recipe="- just\n- a list")).epochs is None
    assert read(folder(tmp_path, {}, recipe="[" * 5000)).epochs is None


def test_a_control_without_costs_has_those_of_the_student(tmp_path: Path) -> None:
    parts = {"control": {"accuracy": [0.5]}, "student": {"accuracy": [0.6], "bytes": 10, "parameters": 2}}
    control = read(folder(tmp_path, parts)).costs()["control"]
    assert (control.bytes, control.parameters, control.latency) == (10, 2, None)


def test_the_metric_names_the_field(tmp_path: Path) -> None:
    found = {"metric": "spearman", "student": {"spearman": [0.7, 0.8], "accuracy": [0.1]}}
    assert read(folder(tmp_path, found)).rows["student"].score == (0.7, 0.8)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\x00", "[" * 100_000])
def test_a_broken_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"result\.json"):
        read(tmp_path)


def test_a_folder_without_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finished"):
        read(tmp_path)
    with pytest.raises(InputError, match="not a run folder"):
        read(tmp_path / "nowhere")
