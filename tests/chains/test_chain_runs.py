"""A chain runs end to end: what each link learns from whom, what it is held against, what is left behind."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import limbeck
from limbeck import build, teaching
from limbeck.cli import main
from limbeck.commands.check import examined
from limbeck.errors import InputError
from limbeck.evaluation.statistics import paired_interval
from limbeck.recipe import ControlSpec, Recipe, links_of

SMALL = "py:limbeck.students.small:convnet"


def weights_in(out: Path) -> dict[str, bytes]:
    """Of every network of a chain."""
    files = [*out.rglob("student.safetensors"), *out.rglob("teacher.safetensors")]
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(files)}


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, fresh_settings: Any
) -> tuple[dict[str, Any], Path, dict[str, Any]]:
    """The settings, the folder and the result of one chain that nobody disturbed."""
    settings = {**fresh_settings(), "export": {"formats": ["onnx"]}}
    out = tmp_path_factory.mktemp("chain") / "run"
    return settings, out, limbeck.run(Recipe.from_dict(settings), out)


def plain(settings: dict[str, Any], **changes: Any) -> Recipe:
    """The same settings without a chain or a control."""
    rest = {key: value for key, value in settings.items() if key != "chain"}
    return Recipe.from_dict({**rest, "control": False, "export": {"formats": []}, **changes})


def students(out: Path, role: str = "student") -> list[bytes]:
    return [(out / "seeds" / str(seed) / role / "student.safetensors").read_bytes() for seed in (0, 1)]


def test_the_result_tells_every_link_and_the_direct_pair(made: Any) -> None:
    _, out, result = made
    assert json.loads((out / "result.json").read_text()) == result
    told = [(s["name"], s["teacher"], s["student"], s["folder"]) for s in result["stages"]]
    assert told == [
        ("assistant", SMALL, SMALL, "chain/1-assistant"),
        ("student", "assistant", SMALL, "chain/2-student"),
    ]
    for stage in result["stages"]:
        own = json.loads((out / stage["folder"] / "result.json").read_text())
        timeless = {key: value for key, value in own["student"].items() if key != "latency_ms"}
        assert {key: stage[key] for key in timeless} == timeless
        assert stage["latency_ms"] > 0
        assert len(stage["accuracy"]) == len(stage["agreement"]) == 2
    first, last = result["stages"]
    assert first["parameters"] > last["parameters"]
    assert result["teacher"]["parameters"] > first["parameters"]
    assert result["student"]["accuracy"] == last["accuracy"]
    assert result["control"]["teacher"] == SMALL
    expected = paired_interval(result["control"]["accuracy"], last["accuracy"]).to_json()
    assert result["gain"] == expected
    assert "ensemble" not in result


def test_the_folder_holds_the_last_student_as_any_run_does(made: Any) -> None:
    _, out, result = made
    assert (out / "student.safetensors").read_bytes() == students(out / "chain/2-student")[0]
    assert (out / result["exports"]["onnx"]["file"]).exists()
    assert not (out / "chain/1-assistant/student.onnx").exists()
    page = (out / "report.html").read_text()
    for said in ("Accuracy along the chain", "1. assistant", "2. student", "chain/1-assistant/report.html"):
        assert said in page
    assert "Direct pair" in page
    for file in (out / "chain").glob("*/report.html"):
        assert "<svg" in file.read_text()
    built = limbeck.run(
        Recipe.from_dict(
            {
                "name": "next",
                "teacher": {"model": f"run:{out}"},
                "student": {"model": SMALL, "width": 2},
                "data": {"source": "digits"},
                "objective": {"kd": 1.0, "cross_entropy": 1.0},
                "train": {"epochs": 0, "optimizer": {"lr": 0.1}},
                "export": {"formats": []},
            }
        ),
        out.parent / "next",
    )
    assert built["teacher"]["accuracy"] == result["student"]["accuracy"][0]


def test_each_link_and_the_control_are_the_plain_runs_that_they_stand_for(made: Any, tmp_path: Path) -> None:
    """To the bit: the same student from the same weights on the same plan, by one or the other teacher."""
    settings, out, _ = made
    first, last = out / "chain/1-assistant", out / "chain/2-student"
    by_assistant = plain(settings, teacher={"model": f"run:{first}"})
    limbeck.run(by_assistant, tmp_path / "by-assistant")
    assert students(tmp_path / "by-assistant") == students(last)
    weights = str(first / "state/teacher/teacher.safetensors")
    by_first = plain(settings, teacher={"model": SMALL, "width": 12, "weights": weights})
    limbeck.run(by_first, tmp_path / "by-first")
    assert students(tmp_path / "by-first") == students(last, "control")
    assert students(last) != students(last, "control")


@pytest.mark.slow
def test_side_by_side_is_the_same_to_the_bit(made: Any, tmp_path: Path) -> None:
    settings, out, result = made
    found = limbeck.run(Recipe.from_dict(settings), tmp_path / "run", jobs=2)
    assert weights_in(tmp_path / "run") == weights_in(out)
    assert found["gain"] == result["gain"]


def test_no_teacher_changes_by_a_bit(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[torch.nn.Module, dict[str, Tensor]]] = []

    def watched(make: Any) -> Any:
        def making(*given: Any) -> Any:
            made = make(*given)
            model = made.network.model
            kept.append((model, {name: value.clone() for name, value in model.state_dict().items()}))
            return made

        return making

    monkeypatch.setattr(teaching, "make_teacher", watched(teaching.make_teacher))
    monkeypatch.setattr(teaching, "frozen", watched(teaching.frozen))
    limbeck.run(Recipe.from_dict(settings | {"seeds": 1}), tmp_path / "run")
    first = load_file(tmp_path / "run/chain/1-assistant/student.safetensors")
    assert any(
        all(torch.equal(first[n], v) for n, v in s.items()) for _, s in kept if s.keys() == first.keys()
    )
    for model, before in kept:
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_generations_and_their_ensemble(settings: dict[str, Any], tmp_path: Path) -> None:
    settings |= {"teacher": None, "chain": {"generations": 3, "ensemble": True}}
    recipe = Recipe.from_dict(settings)
    result = limbeck.run(recipe, tmp_path / "run")
    assert [s["teacher"] for s in result["stages"]] == [None, "generation-1", "generation-2"]
    assert result["teacher"] is None
    first, last = result["stages"][0], result["stages"][-1]
    assert result["control"]["accuracy"] == first["accuracy"]
    assert result["control"]["link"] == "generation-1"
    assert result["gain"] == paired_interval(first["accuracy"], last["accuracy"]).to_json()
    alone = plain(settings, objective={"cross_entropy": 1.0})
    limbeck.run(alone, tmp_path / "alone")
    assert students(tmp_path / "alone") == students(tmp_path / "run/chain/1-generation-1")
    data = build.load_data(recipe)
    pixels = data.test.take(torch.arange(len(data.test)).numpy(), None, 0).input
    for number, seed in enumerate(recipe.seed_list):
        shares = torch.zeros(len(data.test), 10, dtype=torch.float64)
        for link in links_of(recipe, tmp_path / "run"):
            folder = tmp_path / "run" / link.folder / "seeds" / str(seed) / "student"
            one = build.restored(link.recipe, data, seed, folder / "student.safetensors")
            with torch.no_grad():
                shares += one.model.eval()(one.adapter(pixels)).double().softmax(1)
        right = (shares.argmax(1) == data.test.targets).double().mean()
        assert result["ensemble"]["accuracy"][number] == pytest.approx(float(right), abs=1e-9)
    assert result["ensemble"]["parameters"] == 3 * last["parameters"]
    page = (tmp_path / "run/report.html").read_text()
    assert "Ensemble of all generations" in page
    assert "generation-1 (plain training)" in page


class TestResuming:
    @pytest.fixture
    def copied(self, made: Any, tmp_path: Path) -> tuple[dict[str, Any], Path]:
        """The finished chain in another place."""
        settings, out, _ = made
        shutil.copytree(out, tmp_path / "copy")
        return settings, tmp_path / "copy"

    def test_a_finished_chain_is_left_alone(self, copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings, out = copied
        before = {p: p.stat().st_mtime_ns for p in out.glob("chain/*/result.json")}
        monkeypatch.setattr("limbeck.succession.Run", None)
        limbeck.run(Recipe.from_dict(settings), out, resume=True)
        assert {p: p.stat().st_mtime_ns for p in out.glob("chain/*/result.json")} == before

    def test_more_seeds_are_added_to_every_link_also_where_it_was_moved(self, copied: Any, made: Any) -> None:
        settings, out = copied
        before = weights_in(out)
        found = limbeck.run(Recipe.from_dict(settings | {"seeds": 3}), out, resume=True)
        assert [len(stage["accuracy"]) for stage in found["stages"]] == [3, 3]
        assert found["stages"][0]["accuracy"][:2] == made[2]["stages"][0]["accuracy"]
        assert {name: value for name, value in weights_in(out).items() if name in before} == before
        assert str(out) in (out / "chain/2-student/recipe.yaml").read_text()

    def test_the_first_seed_must_stay(self, settings: dict[str, Any], tmp_path: Path) -> None:
        settings |= {"teacher": None, "train": {**settings["train"], "epochs": 0}}
        limbeck.run(Recipe.from_dict(settings), tmp_path / "run")
        with pytest.raises(InputError, match=r"seeds: the teachers of its links are the students of seed 0"):
            limbeck.run(Recipe.from_dict(settings | {"seeds": [1, 0]}), tmp_path / "run", resume=True)

    def test_another_chain_is_refused(self, copied: Any) -> None:
        settings, out = copied
        other = {**settings, "chain": [settings["chain"][0], {"name": "student", "train": {"epochs": 9}}]}
        with pytest.raises(InputError, match=r"was started with chain"):
            limbeck.run(Recipe.from_dict(other), out, resume=True)


def test_what_cannot_work_in_a_later_link_is_told_before_the_first(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings["chain"][1] |= {"objective": {"hint": {"layers": {"nowhere": "nowhere"}}}}
    with pytest.raises(InputError, match="nowhere"):
        limbeck.run(Recipe.from_dict(settings), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]


def test_features_are_paired_with_each_ones_own_teacher(settings: dict[str, Any], tmp_path: Path) -> None:
    """The control's teacher, of three stages, has other layers than the assistant of two."""
    settings |= {"seeds": 1, "teacher": {"model": SMALL, "width": 4, "depth": 3, "blank": True}}
    settings["student"]["depth"] = 1
    settings["objective"] = {"cross_entropy": 1.0, "at": {"weight": 1.0, "layers": "auto"}}
    limbeck.run(Recipe.from_dict(settings), tmp_path / "run")
    kept = Recipe.load(tmp_path / "run/chain/2-student/recipe.yaml")
    assert isinstance(kept.control, ControlSpec)
    assert kept.control.objective is not None
    ours, direct = kept.objective["at"].layers, kept.control.objective["at"].layers
    assert isinstance(ours, dict)
    assert isinstance(direct, dict)
    assert list(ours) == list(direct), "the student's layers"
    assert list(ours.values()) != list(direct.values()), "the teachers'"


class TestChecking:
    def test_the_whole_chain_is_told(self, settings: dict[str, Any]) -> None:
        found = examined(Recipe.from_dict(settings))
        assert [(link["name"], link["teacher"]) for link in found["links"]] == [
            ("assistant", SMALL),
            ("student", "assistant"),
        ]
        sizes = [found["teacher"], *(link["student"] for link in found["links"])]
        counts = [one["parameters"] for one in sizes]
        assert counts == sorted(counts, reverse=True)
        assert found["control"] == {
            "teacher": SMALL,
            "terms": {"cross_entropy": 0.1, "kd": 0.9},
            "link": None,
        }
        assert found["warnings"] == []

    def test_it_fits_a_screen(
        self, settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(Recipe.from_dict(settings).to_yaml())
        assert main(["check", str(recipe)]) == 0
        said = capsys.readouterr().out.splitlines()
        assert len(said) < 24
        assert any("taught by assistant: cross_entropy 0.1, kd 0.9" in line for line in said)
        assert any(line.startswith("control   the direct pair: ") for line in said)
        assert main(["check", str(recipe), "teacher=", "chain={generations: 2, ensemble: true}"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert any("by labels alone: cross_entropy 1" in line for line in said)
        assert any("generation-1, which is plain training" in line for line in said)


def test_a_chain_is_not_compared(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"chain: cannot be compared"):
        limbeck.compare(Recipe.from_dict(settings), tmp_path / "run", methods=["kd"])


@pytest.mark.slow
def test_a_control_with_a_teacher_of_its_own_in_a_plain_run(settings: dict[str, Any], tmp_path: Path) -> None:
    """It is trained as a student of that teacher, and replays its answers where these are kept."""
    settings.pop("chain")
    first = limbeck.run(Recipe.from_dict(settings | {"seeds": 1}), tmp_path / "first")
    assert first["control"]["accuracy"]
    weights = str(tmp_path / "first/state/teacher/teacher.safetensors")
    good = {"model": SMALL, "width": 12, "weights": weights, "cache": {"views": 1}}
    bad = {"model": SMALL, "width": 6, "blank": True, "cache": {"views": 1}}
    both = plain(settings, teacher=bad, control={"teacher": good})
    result = limbeck.run(both, tmp_path / "both", jobs=2)
    alone = plain(settings, teacher=good)
    limbeck.run(alone, tmp_path / "alone")
    assert students(tmp_path / "both", "control") == students(tmp_path / "alone")
    assert result["control"]["teacher"] == SMALL
    page = (tmp_path / "both/report.html").read_text()
    assert f"trained by another teacher ({SMALL})" in page
