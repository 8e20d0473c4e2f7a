"""Trackers get every figure once, with the training's own step, and never stop it."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.errors import InputError
from limbeck.progress import Silent
from limbeck.recipe import Recipe
from limbeck.tracking import KINDS, Tracking, check
from limbeck.tracking.pictures import samples

RECIPE = """
name: tracked
teacher: null
student: {model: "py:limbeck.students.small:convnet", width: 4}
data: {source: digits, batch_size: 50, samples: 200}
objective: {cross_entropy: 1.0}
control: false
train: {epochs: 3, optimizer: {lr: 0.05}}
track: {csv: {}, tensorboard: {}, mlflow: {}, wandb: {mode: offline}, trackio: {}}
export: {formats: []}
"""


def limbeck(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own: these libraries leave threads and settings behind."""
    return subprocess.run(
        [sys.executable, "-m", "limbeck", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


@pytest.mark.slow
def test_every_tracker_gets_the_figures_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = limbeck(tmp_path, "distill", "recipe.yaml", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "warning" not in done.stderr, done.stderr[-3000:]
    result = json.loads(done.stdout)  # nothing of the trackers stands there
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    track = tmp_path / "run/track"
    rows = table(track / "csv/student-0.csv")
    assert [int(row["step"]) for row in rows] == [*(line["step"] for line in lines), lines[-1]["step"] + 1]
    for row, line in zip(rows, lines, strict=False):
        assert float(row["accuracy"]) == line["accuracy"]
        assert float(row["losses/loss"]) == line["losses"]["loss"]
        assert float(row["lr"]) == line["lr"]
    assert float(rows[-1]["final/accuracy"]) == result["student"]["accuracy"][0]
    assert (track / "csv/student-0.png").exists()
    # TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(track / "tensorboard/student-0"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("accuracy")]
    assert [step for step, _ in found] == [line["step"] for line in lines]
    assert [value for _, value in found] == pytest.approx([line["accuracy"] for line in lines])
    assert events.Tags()["images"] == ["samples"]
    # MLflow: a line for each value, "time value step"
    (file,) = (track / "mlflow").glob("*/*/metrics/accuracy")
    values = [text.split() for text in file.read_text().splitlines()]
    assert [int(step) for _, _, step, *_ in values] == [line["step"] for line in lines]
    assert list((track / "mlflow").glob("*/*/artifacts/samples.png"))
    assert next((track / "mlflow").glob("*/*/params/train/epochs")).read_text() == "3"
    # Weights & Biases and Trackio
    assert list(track.glob("wandb/wandb/offline-run-*/run-*.wandb"))
    import sqlite3

    (database,) = track.glob("trackio/*.db")
    with sqlite3.connect(database) as opened:
        stored = opened.execute("select step, metrics from metrics order by step").fetchall()
    assert [step for step, _ in stored][: len(lines)] == [line["step"] for line in lines]


def tracking(folder: Path, wanted: dict[str, dict[str, Any]], display: Any = None) -> Tracking:
    return Tracking(wanted, "run", folder, {"train": {"epochs": 3}}, display or Silent())


def line(step: int) -> dict[str, Any]:
    return {"role": "student", "seed": 0, "step": step, "accuracy": step / 10, "losses": {"loss": 1.0 / step}}


def test_a_resumed_training_sends_no_line_twice(tmp_path: Path) -> None:
    first = tracking(tmp_path, {"csv": {}}).open("student", 0)
    for step in (4, 8):
        first.line(line(step))
    first.close()  # killed here, after the state of step 4: the epoch that ends with step 8 comes again
    again = tracking(tmp_path, {"csv": {}}).open("student", 0)
    for step in (8, 12):
        again.line(line(step))
    again.finish({"accuracy": 0.5, "per_class": [1.0]}, np.zeros((4, 4, 3), dtype=np.uint8), 12)
    rows = table(tmp_path / "track/csv/student-0.csv")
    assert [row["step"] for row in rows] == ["4", "8", "12", "13"]
    assert rows[-1]["final/accuracy"] == "0.5"
    assert "final/per_class" not in rows[0]


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_tracker_that_fails_is_left_out_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = Said()
    opened = tracking(tmp_path, {"csv": {}, "tensorboard": {}}, display).open("student", 0)
    from limbeck.tracking.csv import CsvTracker

    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(CsvTracker, "log", broken)
    for step in (1, 2, 3):
        opened.line(line(step))
    opened.finish({"accuracy": 0.5}, None, 3)
    assert display.lines == ["warning: the tracker csv failed and is left out: ConnectionError: no network"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "track/tensorboard/student-0"))
    events.Reload()
    assert [event.step for event in events.Scalars("accuracy")] == [1, 2, 3]  # the other goes on


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"tensorbord": {}}, 'track: unknown tracker "tensorbord". Did you mean "tensorboard"'),
        ({"csv": {"file": "x"}}, r"track\.csv: unknown option"),
        ({"tensorboard": {"flush_sec": 3}}, 'Did you mean "flush_secs"'),
        ({"wandb": {"name": "x"}}, r"track\.wandb: unknown option"),
        ({"mlflow": {"experiment": "x"}}, 'Did you mean "experiment_name"'),
    ],
)
def test_bad_trackers_and_options_are_refused(wanted: dict[str, dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check(wanted)


def test_a_package_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KINDS["wandb"], "package", "surely_not_installed")
    with pytest.raises(InputError, match=r"pip install 'limbeck\[trackers\]'"):
        check({"wandb": {}})


def test_the_recipe_takes_a_list_or_a_mapping() -> None:
    from limbeck.reading import read_yaml

    data = read_yaml(RECIPE)
    for given in (["csv", "tensorboard"], {"csv": None, "tensorboard": {}}):
        assert Recipe.from_dict({**data, "track": given}).track == {"csv": {}, "tensorboard": {}}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_each_sample(channels: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    images = torch.rand(6, channels, 8, 8, generator=drawn)
    logits = torch.randn(6, 3, generator=drawn)
    with_teacher = samples(
        images, torch.tensor([0, 1, 2, -1, 0, 1]), logits, logits, ("a", "b", "a long name" * 3)
    )
    assert with_teacher.dtype == np.uint8
    assert with_teacher.shape[2] == 3
    assert min(with_teacher.shape[:2]) > 300
    alone = samples(images, torch.zeros(6), logits, None, ("a", "b", "c"))
    assert not np.array_equal(alone, with_teacher)


def test_a_row_that_a_kill_left_unremembered_is_not_written_twice(tmp_path: Path) -> None:
    first = tracking(tmp_path, {"csv": {}}).open("student", 0)
    first.line(line(4))
    (tmp_path / "track/student-0.json").unlink()  # killed before it was remembered
    again = tracking(tmp_path, {"csv": {}}).open("student", 0)
    for step in (4, 8):
        again.line(line(step))
    assert [row["step"] for row in table(tmp_path / "track/csv/student-0.csv")] == ["4", "8"]
