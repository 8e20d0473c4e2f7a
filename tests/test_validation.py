"""A validation part is kept out of the training, and scored at every epoch and at the end."""

import json
from pathlib import Path

import limbeck
from limbeck.build import load_data
from limbeck.recipe import Recipe

RECIPE = {
    "name": "held-out",
    "seeds": 1,
    "teacher": None,
    "student": {"model": "py:limbeck.students.small:mlp", "width": 8},
    "data": {"source": "digits", "batch_size": 50, "samples": 200, "validation": 0.2},
    "objective": {"cross_entropy": 1.0},
    "control": False,
    "train": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
    "export": {"formats": []},
}


def test_the_validation_part_is_scored_by_epoch_and_at_the_end(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(RECIPE)
    result = limbeck.run(recipe, out=tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    data = load_data(recipe)
    assert data.validation is not None
    held = len(data.validation)
    assert held > 0
    for found in [line["validation_accuracy"] for line in lines] + result["student"]["validation"]:
        # A share of the validation part, and not of the 360 test samples.
        assert abs(found * held - round(found * held)) < 1e-6
    assert result["student"]["validation"] == [lines[-1]["validation_accuracy"]]


def test_without_a_validation_part_nothing_is_said_of_it(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(RECIPE | {"data": RECIPE["data"] | {"validation": 0}})
    result = limbeck.run(recipe, out=tmp_path / "run")
    assert "validation" not in result["student"]
    assert "validation_accuracy" not in (tmp_path / "run" / "metrics.jsonl").read_text()
