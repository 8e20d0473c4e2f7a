"""The demo: its recipe, its command from end to end (with few epochs), and what it leaves behind."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from limbeck import cli, models, weights
from limbeck.build import load_data, make_student, prepare
from limbeck.commands import distill
from limbeck.overrides import apply_overrides
from limbeck.phase import Phase
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe
from limbeck.teachers import Frozen

BUILT_IN = files("limbeck") / "demo.yaml"
SHORT = ["train.epochs=3", "teacher.train.epochs=2"]
SEEDS = [0, 1]


@dataclass
class Done:
    """A finished short demo."""

    code: int
    printed: str
    out: Path
    teachers: list[tuple[Frozen, dict[str, Tensor]]]
    """Each student's teacher, with a copy of its state from before the distillation."""

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "result.json").read_text())
        return found


def _spy(teachers: list[tuple[Frozen, dict[str, Tensor]]]) -> Any:
    """`Phase.run` that remembers each student's teacher as it was before anything was distilled."""
    real = Phase.run

    def watched(phase: Phase, scheme: Any, *rest: Any) -> Any:
        if phase.role == "student":
            before = {n: v.clone() for n, v in scheme.teacher.network.model.state_dict().items()}
            teachers.append((scheme.teacher, before))
        return real(phase, scheme, *rest)

    return watched


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    """`limbeck demo --seeds 2 --json` with the built-in recipe's epochs cut to a few."""
    folder = tmp_path_factory.mktemp("demo")
    short = apply_overrides(read_yaml(BUILT_IN.read_text()), SHORT)
    (folder / "demo.yaml").write_text(yaml.safe_dump(short))
    out, teachers, printed = folder / "run", [], io.StringIO()
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(distill, "files", lambda package: folder)
        patch.setattr(Phase, "run", _spy(teachers))
        code = cli.main(["demo", "--seeds", str(len(SEEDS)), "--out", str(out), "--json"])
    yield Done(code, printed.getvalue(), out, teachers)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.from_dict(read_yaml(BUILT_IN.read_text()), None)


def test_built_in_recipe_is_what_the_demo_promises(recipe: Recipe) -> None:
    assert list(recipe.seed_list) == [0, 1, 2]
    assert recipe.data.source == "digits"
    assert recipe.teacher is not None
    assert recipe.teacher.train is not None
    assert recipe.control is not False
    assert set(recipe.export.formats) == {"onnx", "int8"}


def test_student_of_the_demo_is_much_smaller_than_its_teacher(recipe: Recipe) -> None:
    data = load_data(recipe)
    assert recipe.teacher is not None
    teacher = prepare(recipe.teacher, data, where="teacher", beside=None)
    student = make_student(recipe, data, 0)
    assert models.parameters(student.model) * 10 < models.parameters(teacher.model)


def test_standard_output_holds_the_result_and_nothing_else(done: Done) -> None:
    assert done.code == 0
    assert json.loads(done.printed) == done.result


def test_result_has_the_fields_that_scripts_rely_on(done: Done) -> None:
    result = done.result
    assert result["name"] == "demo-digits"
    assert result["metric"] == "accuracy"
    assert result["seeds"] == SEEDS
    for role in ("control", "student"):
        for field in ("accuracy", "best"):
            values = result[role][field]
            assert len(values) == len(SEEDS)
            assert all(0 <= v <= 1 for v in values)
    for field in ("agreement", "ece"):
        assert len(result["student"][field]) == len(SEEDS)
    for who in (result["teacher"], result["student"], *result["exports"].values()):
        assert who["bytes"] > 0
        assert who["latency_ms"] > 0
    assert result["teacher"]["frozen"] is True
    assert result["teacher"]["parameters"] > result["student"]["parameters"]
    assert set(result["seconds"]) == {"teacher", "control", "student"}
    assert {"torch", "device", "threads"} <= set(result["environment"])


def test_gain_is_the_mean_difference_by_seed(done: Done) -> None:
    result = done.result
    pairs = zip(result["student"]["accuracy"], result["control"]["accuracy"], strict=True)
    gains = [student - control for student, control in pairs]
    gain = result["gain"]
    assert gain["seeds"] == len(SEEDS)
    assert gain["mean"] == pytest.approx(sum(gains) / len(gains))
    assert gain["interval"][0] <= gain["mean"] <= gain["interval"][1]


def test_accuracies_are_shares_of_the_held_out_test_split(done: Done, recipe: Recipe) -> None:
    samples = len(load_data(recipe).test)
    assert samples == 360
    result = done.result
    shares = [result["teacher"]["accuracy"], *result["control"]["accuracy"], *result["student"]["accuracy"]]
    shares += [e["accuracy"] for e in result["exports"].values()]
    for share in shares:
        assert share * samples == pytest.approx(round(share * samples), abs=1e-6)


def test_run_folder_holds_every_file(done: Done) -> None:
    names = ["recipe.yaml", "result.json", "metrics.jsonl", "student.safetensors", "report.html"]
    names += ["student.onnx", "student.int8.onnx"]
    names += [f"seeds/{seed}/{role}" for seed in SEEDS for role in ("control", "student")]
    assert [n for n in names if not (done.out / n).exists()] == []
    assert done.result["exports"]["onnx"]["file"] == "student.onnx"
    assert done.result["exports"]["int8"]["file"] == "student.int8.onnx"


def test_every_epoch_of_every_training_is_in_the_journal(done: Done) -> None:
    lines = [json.loads(line) for line in (done.out / "metrics.jsonl").read_text().splitlines()]
    found = [(line["role"], line["seed"], line["epoch"]) for line in lines]
    wanted = [("teacher", 0, epoch) for epoch in (1, 2)]
    wanted += [(role, s, epoch) for s in SEEDS for role in ("control", "student") for epoch in (1, 2, 3)]
    assert sorted(found) == sorted(wanted)


def test_teacher_is_bit_identical_after_distilling(done: Done) -> None:
    assert len(done.teachers) == len(SEEDS)
    saved = weights.read(done.out / "state" / "teacher" / "teacher.safetensors")
    assert any(name.endswith("running_mean") for name in saved), "the teacher must have batch statistics"
    for teacher, before in done.teachers:
        after = teacher.network.model.state_dict()
        assert set(after) == set(before) == set(saved)
        for name, value in after.items():
            assert torch.equal(value, before[name]), name
            assert torch.equal(value.cpu(), saved[name]), name


def test_shipped_student_is_the_first_seeds_and_has_learnt(done: Done) -> None:
    recipe = Recipe.load(done.out / "recipe.yaml")
    start = make_student(recipe, load_data(recipe), SEEDS[0]).model.state_dict()
    shipped = weights.read(done.out / "student.safetensors")
    kept = weights.read(done.out / "seeds" / "0" / "student" / "student.safetensors")
    assert set(shipped) == set(kept) == set(start)
    assert all(torch.equal(shipped[name], kept[name]) for name in shipped)
    assert not torch.equal(shipped["linear.weight"], start["linear.weight"])
