"""A run with several teachers from end to end: each trained once, weighted, reported, and resumed."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from limbeck import report
from limbeck.build import load_data
from limbeck.commands.check import check
from limbeck.comparison import compare
from limbeck.data.mislabelling import mislabelled
from limbeck.errors import InputError
from limbeck.faculty import teaching_of
from limbeck.knowledge import UNLABELLED
from limbeck.phase import Phase
from limbeck.progress import Silent
from limbeck.recipe import Recipe
from limbeck.running import run
from limbeck.training.runtime import Runtime

NET = "py:limbeck.students.small:convnet"
RECIPE: dict[str, Any] = {
    "name": "three",
    "seeds": 2,
    "teacher": [
        {"name": "good", "model": NET, "width": 8, "train": {"epochs": 3}},
        {"name": "flat", "model": "py:limbeck.students.small:mlp", "width": 16, "train": {"epochs": 2}},
        {"name": "bad", "model": NET, "width": 8, "label_noise": 1.0, "train": {"epochs": 3}},
    ],
    "weighting": "confidence",
    "student": {"model": NET, "width": 4},
    "data": {"source": "digits", "batch_size": 64, "samples": 320},
    "objective": {
        "cross_entropy": 0.1,
        "kd": {"weight": 0.9, "temperature": 4},
        "hint": {"weight": 0.1, "layers": {"linear:in": "linear:in"}},
    },
    "train": {"epochs": 2, "optimizer": {"name": "adamw", "lr": 0.02}, "device": "cpu", "threads": 1},
    "export": {"formats": []},
}


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("several") / "run"
    return out, run(Recipe.from_dict(RECIPE), out)


def test_the_result_tells_each_teacher_and_all_of_them(done: tuple[Path, dict[str, Any]]) -> None:
    out, result = done
    teachers = result["teachers"]
    assert list(teachers) == ["good", "flat", "bad"]
    for one in teachers.values():
        assert {"accuracy", "parameters", "bytes", "latency_ms", "frozen", "weight"} <= set(one)
        assert len(one["weight"]) == 2
    for seed in (0, 1):
        assert sum(one["weight"][seed] for one in teachers.values()) == pytest.approx(1, abs=1e-5)
    last = [line for line in lines(out) if line["role"] == "student" and line["epoch"] == 2]
    assert [line["losses"]["weight.bad"] for line in last] == teachers["bad"]["weight"]
    assert teachers["bad"]["weight"][0] < 1 / 3 < teachers["good"]["weight"][0]
    assert result["teacher"]["parameters"] == sum(one["parameters"] for one in teachers.values())
    assert result["teacher"]["accuracy"] > teachers["bad"]["accuracy"]
    assert {"hint.good", "hint.flat", "hint.bad"} <= set(last[0]["losses"])


def test_each_teacher_is_trained_once_and_differs_by_its_seed(done: tuple[Path, dict[str, Any]]) -> None:
    out, _ = done
    roles = [(line["role"], line["epoch"]) for line in lines(out) if line["role"].startswith("teacher")]
    assert roles == [
        *(
            (f"teacher.{n}", e)
            for n, last in (("good", 3), ("flat", 2), ("bad", 3))
            for e in range(1, last + 1)
        )
    ]
    good, bad = (load_file(out / f"state/teacher.{n}/teacher.safetensors") for n in ("good", "bad"))
    assert all(not torch.equal(good[key], bad[key]) for key in good if key.endswith("linear.weight"))


def test_a_finished_run_is_resumed_without_training_anybody(
    done: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = done

    def no(*args: Any, **options: Any) -> None:
        raise AssertionError("a training began anew")

    monkeypatch.setattr(Phase, "run", no)
    again = run(Recipe.from_dict(RECIPE), out, resume=True)
    assert [one["weight"] for one in again["teachers"].values()] == [
        one["weight"] for one in result["teachers"].values()
    ]
    changed = [*RECIPE["teacher"][:2], {**RECIPE["teacher"][2], "label_noise": 0.5}]
    with pytest.raises(InputError, match=r"teacher\.2\.label_noise: 1\.0, and the recipe now says 0\.5"):
        run(Recipe.from_dict({**RECIPE, "teacher": changed}), out, resume=True)


def test_the_page_shows_the_teachers(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    page = report.write(done[0], tmp_path / "page.html").read_text()
    assert "<h2>Teachers</h2>" in page
    for name in ("good", "flat", "bad"):
        assert f">{name}<" in page
    assert "Weighting: confidence." in page


def test_check_tells_every_teacher_and_the_weighting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(Recipe.from_dict(RECIPE).to_yaml())
    found = check(file, [], as_json=False)
    said = capsys.readouterr().out
    assert found["teacher"] is None
    assert list(found["teachers"]) == ["good", "flat", "bad"]
    assert found["teachers"]["bad"]["label_noise"] == 1.0
    assert "trained first with 100% of its labels wrong (bad)" in said
    assert "weighting confidence" in said
    assert "hint.flat" in said


def test_methods_are_compared_under_several_teachers(tmp_path: Path) -> None:
    small = {**RECIPE, "seeds": 1, "weighting": "entropy", "teacher": RECIPE["teacher"][::2]}
    result = compare(Recipe.from_dict(small), tmp_path / "run", methods=["kd", "at"])
    assert set(result["variants"]) == {"kd", "attention_transfer"}
    assert list(result["teachers"]) == ["good", "bad"]
    for variant in result["variants"].values():
        assert sum(found[0] for found in variant["weight"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("change", [{"labels": 40}, {"mix": {"mixup": 0.4}}])
@pytest.mark.parametrize("weighting", ["confidence", "learned"])
def test_few_labels_and_mixed_ones_work(tmp_path: Path, change: dict[str, Any], weighting: str) -> None:
    blank = [{"model": NET, "width": 4}, {"model": NET, "width": 6}]
    made = {
        **RECIPE,
        "seeds": 1,
        "teacher": blank,
        "weighting": weighting,
        "data": {**RECIPE["data"], **change},
        "objective": {"cross_entropy": 0.1, "kd": 0.9},
        "control": False,
    }
    result = run(Recipe.from_dict(made), tmp_path / "run")
    weights = [one["weight"][0] for one in result["teachers"].values()]
    assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_no_epochs_leave_no_weights(tmp_path: Path) -> None:
    made = {**RECIPE, "seeds": 1, "train": {**RECIPE["train"], "epochs": 0}, "teacher": RECIPE["teacher"][:2]}
    result = run(Recipe.from_dict(made), tmp_path / "run")
    assert [one["weight"] for one in result["teachers"].values()] == [[None], [None]]


@pytest.mark.slow
def test_teachers_that_are_all_compiled_are_one_graph_with_the_same_answers(tmp_path: Path) -> None:
    plain = {**RECIPE, "seeds": 1, "control": False}
    joined = {**plain, "teacher": [{**one, "backend": "compile"} for one in RECIPE["teacher"]]}
    found = []
    for name, made in (("plain", plain), ("joined", joined)):
        out = tmp_path / name
        run(Recipe.from_dict(made), out)
        found.append([line["losses"] for line in lines(out) if line["role"] == "student"])
        shutil.rmtree(out / "seeds")
    for one, other in zip(*found, strict=True):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)


def test_the_share_of_labels_that_was_asked_for_is_wrong() -> None:
    targets = torch.from_numpy(np.arange(1000) % 7)
    targets[::10] = UNLABELLED
    wrong = mislabelled(targets, 0.25, 7, seed=3)
    known = targets != UNLABELLED
    assert int((wrong != targets).sum()) == 225
    assert torch.equal(wrong[~known], targets[~known])
    assert wrong[known].min() >= 0
    assert wrong.max() <= 6
    assert torch.equal(wrong, mislabelled(targets, 0.25, 7, seed=3))
    assert not torch.equal(wrong, mislabelled(targets, 0.25, 7, seed=4))
    all_wrong = mislabelled(targets, 1.0, 7, seed=0)
    assert not (all_wrong == targets)[known].any()
    counts = torch.bincount((all_wrong - targets)[known] % 7, minlength=7)
    assert counts[0] == 0
    assert counts[1:].min() > 100  # each other class about equally often: 150
    with pytest.raises(InputError, match="at least 2 classes"):
        mislabelled(torch.zeros(4, dtype=torch.int64), 0.5, 1, seed=0)


def test_teachers_of_the_same_layers_are_put_together_once() -> None:
    blank = [{"name": name, "model": NET, "width": 4} for name in ("a", "b")]
    made = Recipe.from_dict({**RECIPE, "teacher": blank, "objective": {"cross_entropy": 0.1, "kd": 0.9}})

    def never(*args: Any) -> Phase:
        raise AssertionError("nobody is trained")

    teaching = teaching_of(made, load_data(made), Runtime("cpu"), Silent(), never)
    first = teaching.network([])
    assert teaching.network([]) is first  # or it would be compiled anew for each training
    other = teaching.network(["a/stage1"])
    assert other is not first
    assert teaching.network(["a/stage1"]) is other


def test_only_the_teachers_own_training_sees_wrong_labels() -> None:
    made = Recipe.from_dict(RECIPE)
    assert torch.equal(load_data(made).train.targets, load_data(made.members()["bad"]).train.targets)
