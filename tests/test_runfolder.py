"""A run folder belongs to one recipe, on the same data."""

import copy
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck
from limbeck import phase, weights
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.runfolder import RunFolder

RECIPE: dict[str, Any] = {
    "name": "same-data",
    "seeds": 1,
    "teacher": None,
    "student": {"model": "py:limbeck.students.small:mlp", "width": 4},
    "data": {"source": "py:shades:samples", "batch_size": 8},
    "objective": {"cross_entropy": 1.0},
    "control": False,
    "train": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
    "export": {"formats": []},
}
SHADES = """
import torch
from torch.utils.data import TensorDataset

def samples():
    images = torch.full((16, 1, 8, 8), {shade})
    images[::2] = 0
    data = TensorDataset(images, torch.arange(16) % 2)
    return data, data
"""


def test_resuming_on_other_data_is_refused_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "shades.py").write_text(SHADES.format(shade=1.0))
    recipe = Recipe.from_dict(RECIPE, tmp_path / "recipe.yaml")
    first = limbeck.run(recipe, out=tmp_path / "run")
    again = limbeck.run(recipe, out=tmp_path / "run", resume=True)
    assert again["student"]["accuracy"] == first["student"]["accuracy"]
    origin = tmp_path / "run" / "state" / "origin.json"
    notes = json.loads(origin.read_text())
    assert set(notes["data"]) == {"training", "test"}
    origin.write_text(json.dumps(notes | {"data": notes["data"] | {"test": "another"}}))
    before = (tmp_path / "run" / "result.json").read_bytes()
    with pytest.raises(InputError, match="the test split is not the one that this run was started with"):
        limbeck.run(recipe, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "result.json").read_bytes() == before


def test_a_run_keeps_the_threads_that_it_started_with(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(RECIPE | {"data": {"source": "digits"}})
    folder = RunFolder(tmp_path)
    assert folder.claim(recipe, {}, 3) == 3
    assert folder.claim(recipe, {}, 5) == 3
    folder.origin.write_text("torn")
    assert folder.claim(recipe, {}, 5) == 5


def killed(recipe: Recipe, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends in the midst of its second epoch, the first one saved."""
    ended = phase.Phase._epoch

    def kill(self: Any, step: Any, *rest: Any) -> None:
        if step.epoch == 2:
            raise KeyboardInterrupt
        ended(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(phase.Phase, "_epoch", kill)
        with pytest.raises(KeyboardInterrupt):
            limbeck.run(recipe, out)


def changed(**settings: Any) -> Recipe:
    """The recipe with other settings, by keys such as `train__epochs`."""
    found = copy.deepcopy(RECIPE | {"data": {"source": "digits", "batch_size": 64, "samples": 256}})
    for key, value in ({"train__epochs": 3, "train__save_every": 0} | settings).items():
        *place, last = key.split("__")
        part = found
        for name in place:
            part = part[name]
        part[last] = value
    return Recipe.from_dict(found)


def test_a_tracker_may_be_added_to_a_run_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(changed(), tmp_path / "run", monkeypatch)
    result = limbeck.run(changed(track=["csv"]), tmp_path / "run", resume=True)
    with (tmp_path / "run/track/csv/student-0.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows if row["epoch"]] == ["2", "3"]
    assert float(rows[-1]["final/accuracy"]) == result["student"]["accuracy"][0]
    # And taken away again: the run is the same.
    again = limbeck.run(changed(), tmp_path / "run", resume=True)
    assert again["student"]["loss"] == result["student"]["loss"]


def test_a_run_goes_on_in_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is told to when memory runs out; a network without BatchNorm ends where it would have ended."""
    limbeck.run(changed(), tmp_path / "whole")
    killed(changed(), tmp_path / "run", monkeypatch)
    limbeck.run(changed(train__accumulate=4), tmp_path / "run", resume=True)
    whole, parts = (weights.read(tmp_path / name / "student.safetensors") for name in ("whole", "run"))
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-5)
