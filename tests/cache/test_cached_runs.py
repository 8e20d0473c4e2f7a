"""Runs that replay their teacher's answers find what runs find that ask it as they go on."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import limbeck
from limbeck.cli import main
from limbeck.errors import InputError
from limbeck.progress import Silent
from limbeck.recipe import Recipe
from limbeck.running import run
from limbeck.students.small import convnet
from limbeck.teachers import Frozen

SAMPLES = 192

BASE: dict[str, Any] = {
    "name": "cached",
    "teacher": {"model": "py:limbeck.students.small:convnet", "width": 8, "weights": "teacher.safetensors"},
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 32, "samples": SAMPLES, "views": {"crop": 1}},
    "objective": {"cross_entropy": 0.1, "kd": {"weight": 0.9, "temperature": 2}},
    "train": {"epochs": 3, "optimizer": {"name": "sgd", "lr": 0.02}, "threads": 1},
    "control": False,
    "export": {"formats": []},
}


class Said(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the teacher's weights, and a cache folder of its own."""
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "caches"))
    teacher(tmp_path, 0)
    return tmp_path


def teacher(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    network = convnet(10, in_channels=1, width=8)
    save_file(network.state_dict(), folder / "teacher.safetensors")


def recipe(beside: Path, **changed: Any) -> Recipe:
    settled = json.loads(json.dumps(BASE))
    for place, value in changed.items():
        part = settled
        *before, last = place.split("__")
        for key in before:
            part = part[key]
        part[last] = value
    return Recipe.from_dict(settled, beside / "recipe.yaml")


def losses(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["losses"] for line in lines if line["role"] != "control"]


def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the batches that a teacher network answers while a training goes on."""
    counts: list[int] = []
    before = Frozen.__call__

    def counting(self: Frozen, batch: Any, differentiable: bool = False) -> Any:
        counts.append(len(batch))
        return before(self, batch, differentiable)

    monkeypatch.setattr(Frozen, "__call__", counting)
    return counts


MIXED = {"mixup": 0.2, "cutmix": 1.0, "mode": "elem"}
CASES: list[dict[str, Any]] = [
    {},
    {"data__mix": MIXED},
    {"data__repeats": 3},
    {"data__mix": MIXED, "data__repeats": 2, "train__accumulate": 2},
    {"train__workers": 1},
    {"stages": [{"name": "first", "epochs": 1, "objective": {"kd": 1.0}}]},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case) or "plain")
def test_a_run_that_replays_single_precision_has_the_very_losses_of_one_that_asks(
    beside: Path, case: dict[str, Any]
) -> None:
    run(recipe(beside, **case), beside / "online")
    run(recipe(beside, **case, teacher__cache={"store": "fp32"}), beside / "cached")
    assert losses(beside / "cached") == losses(beside / "online")
    one, other = ((beside / n / "student.safetensors").read_bytes() for n in ("cached", "online"))
    assert one == other


def test_half_precision_is_the_default_and_within_its_rounding(beside: Path) -> None:
    run(recipe(beside), beside / "online")
    run(recipe(beside, teacher__cache={}), beside / "cached")
    for found, wanted in zip(losses(beside / "cached"), losses(beside / "online"), strict=True):
        assert found == pytest.approx(wanted, rel=2e-3)
        assert found != wanted
    (folder,) = (beside / "caches" / "teachers").iterdir()
    stored = sum(path.stat().st_size for path in folder.glob("*.npy"))
    assert stored <= 3 * SAMPLES * (2 * 10 + 8)


def test_features_are_replayed_on_request(beside: Path) -> None:
    more = {"objective": {"cross_entropy": 1.0, "hint": {"weight": 1.0, "layers": "auto"}}}
    run(recipe(beside, **more), beside / "online")
    with pytest.raises(InputError, match=r"objective.hint reads layers.*teacher.cache.features: true"):
        run(recipe(beside, **more, teacher__cache={}), beside / "refused")
    kept = {"store": "fp32", "features": True}
    run(recipe(beside, **more, teacher__cache=kept), beside / "cached")
    assert losses(beside / "cached") == losses(beside / "online")


def test_few_views_are_seen_by_student_and_control_alike(beside: Path) -> None:
    few = recipe(beside, teacher__cache={"store": "fp32", "views": 1}, control=True)
    run(few, beside / "few")
    run(recipe(beside, control=True), beside / "many")

    def control(out: Path) -> list[float]:
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line["losses"]["loss"] for line in lines if line["role"] == "control"]

    assert control(beside / "few")[0] == control(beside / "many")[0]
    assert control(beside / "few")[1] != control(beside / "many")[1]
    manifests = [json.loads(p.read_text()) for p in (beside / "caches").rglob("manifest.json")]
    assert [found["passes"] for found in manifests] == [1]


def test_the_teacher_is_not_asked_again(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where a step is not timed first, to see whether compiling would pay.
    plain = {"teacher__cache": {}, "train__compile": False}
    run(recipe(beside, **plain), beside / "first")
    counts = asked(monkeypatch)
    run(recipe(beside, **plain, student__width=6), beside / "second")
    steps = 3 * SAMPLES // 32
    assert len(counts) < steps, "only probes and a few samples for trust, whichever student it is"
    assert sum(counts) <= 64


def test_a_cache_that_lies_ready_is_taken_by_itself_and_one_with_fewer_views_is_not(
    beside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (beside / "recipe.yaml").write_text(recipe(beside).to_yaml())
    said = Said()
    assert main(["cache", str(beside / "recipe.yaml"), "--views", "2"]) == 0
    run(recipe(beside), beside / "short", display=said)
    assert any("2 views of each sample, less than one for each of 3 epochs" in line for line in said.lines)
    assert not any("replays" in line and "answers from" in line for line in said.lines)
    assert main(["cache", str(beside / "recipe.yaml")]) == 0
    out = capsys.readouterr().out
    assert "seed 0: 3 views of 192 samples" in out
    assert "replay it by themselves" in out
    run(recipe(beside), beside / "taken", display=said)
    assert any("replays the teacher's answers from" in line for line in said.lines)
    run(recipe(beside, teacher__cache="never"), beside / "never")
    assert losses(beside / "never") == losses(beside / "short")
    assert losses(beside / "never") != losses(beside / "taken")


def test_a_stale_cache_is_refused_with_what_differs(beside: Path) -> None:
    named = {"folder": "answers"}
    run(recipe(beside, teacher__cache=named), beside / "first")
    assert (beside / "answers" / "seed-0" / "manifest.json").exists()
    teacher(beside, 1)
    with pytest.raises(InputError, match=r"made from something else: teacher.weights: \w+ there, \w+ here"):
        run(recipe(beside, teacher__cache=named), beside / "second")
    teacher(beside, 0)
    for place, value, told in [
        ("data__samples", 160, "data.hash"),
        ("data__views", {"crop": 0}, "data.views"),
        ("data__mix", MIXED, "plan.batch"),
        ("teacher__input", {"mean": [0.3]}, "teacher.input.shift"),
        ("teacher__cache", {**named, "store": "fp32"}, "layout.bits"),
    ]:
        with pytest.raises(InputError, match=told):
            run(recipe(beside, **{"teacher__cache": named, place: value}), beside / "third")


def test_other_weights_make_another_cache_and_say_why(beside: Path) -> None:
    run(recipe(beside, teacher__cache={}), beside / "first")
    teacher(beside, 1)
    said = Said()
    run(recipe(beside, teacher__cache={}), beside / "second", display=said)
    assert any("not taken" in line and "teacher.weights" in line for line in said.lines)
    assert len(list((beside / "caches" / "teachers").iterdir())) == 2


def test_answers_that_no_checksum_covers_are_compared_with_the_teacher(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe(beside, teacher__cache={}), beside / "first")
    before = Frozen.__call__

    def changed(self: Frozen, batch: Any, differentiable: bool = False) -> Any:
        answer = before(self, batch, differentiable)
        return limbeck.Knowledge(answer.logits.flip(1), answer.features)

    monkeypatch.setattr(Frozen, "__call__", changed)
    with pytest.raises(InputError, match="are not those stored"):
        run(recipe(beside, teacher__cache={}), beside / "second")


def test_a_comparison_asks_the_teacher_once_for_all_students(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(out: str, **more: Any) -> dict[str, Any]:
        return limbeck.compare(recipe(beside, **more), beside / out, methods=["kd", "dkd", "dist"])

    compared("online", teacher__cache="never")
    counts = asked(monkeypatch)
    compared("shared")
    assert sorted(map(json.dumps, losses(beside / "shared"))) == sorted(
        map(json.dumps, losses(beside / "online"))
    )
    whole = 3 * SAMPLES
    assert whole <= sum(counts) < 2 * whole
    assert not (beside / "shared" / "state" / "cache").exists()
    assert not (beside / "caches").exists()


def test_a_large_cache_is_not_made_unasked(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.replaying.ROOM", 1000)
    said = Said()
    limbeck.compare(recipe(beside, train__epochs=1), beside / "out", methods=["kd", "dkd"], display=said)
    assert any("a cache of its answers would take 7.68 kB" in line for line in said.lines)


@pytest.mark.parametrize("spec", ["auto", 3])
def test_without_a_training_nobody_is_asked(beside: Path, spec: Any) -> None:
    run(recipe(beside, teacher__cache=spec, train__epochs=0), beside / "out")
    assert not (beside / "caches").exists()


def test_no_room_is_told_before_any_work(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 100

    monkeypatch.setattr("limbeck.caching.shutil.disk_usage", lambda path: Full)
    with pytest.raises(InputError, match=r"needs 11.5 kB in .*, and 100 bytes are free.*Give fewer views"):
        run(recipe(beside, teacher__cache={}), beside / "out")


def test_what_was_settled_holds_when_a_run_goes_on(beside: Path) -> None:
    """A cache that appears while a run is stopped must not change what it computes."""
    from limbeck.phase import Interrupted
    from limbeck.runner import Run

    class Stopping(Run):
        def _phase(self, *given: Any) -> Any:
            phase = super()._phase(*given)
            phase.stop = iter([False] * 4 + [True] * 100).__next__
            return phase

    run(recipe(beside), beside / "whole")
    with pytest.raises(Interrupted):
        Stopping(recipe(beside), beside / "stopped", Silent()).go(False)
    (beside / "recipe.yaml").write_text(recipe(beside).to_yaml())
    assert main(["cache", str(beside / "recipe.yaml")]) == 0
    run(recipe(beside), beside / "stopped", resume=True)
    assert losses(beside / "stopped") == losses(beside / "whole")


@pytest.mark.parametrize("store", ["topk", "sample"])
def test_what_is_not_whole_is_kept_at_the_temperature_of_the_terms(beside: Path, store: str) -> None:
    spec = {"store": store, "top_k": 3, "draws": 200}
    run(recipe(beside, teacher__cache=spec, train__epochs=1), beside / "out")
    (manifest,) = (beside / "caches").rglob("manifest.json")
    assert json.loads(manifest.read_text())["layout"]["temperature"] == 2.0
    several = {"kd": {"temperature": 2}, "dkd": {"temperature": 4}, "cross_entropy": 1.0}
    with pytest.raises(InputError, match=r"teacher.cache.temperature: .*terms have 2, 4"):
        run(recipe(beside, teacher__cache=spec, objective=several), beside / "refused")


def test_the_command_answers_in_json(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (beside / "recipe.yaml").write_text(recipe(beside, seeds=2).to_yaml())
    words = ["cache", str(beside / "recipe.yaml"), "--views", "2", "--out", str(beside / "here"), "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["name"] == "cached"
    assert [c["seed"] for c in found["caches"]] == [0, 1]
    for cache in found["caches"]:
        assert Path(cache["folder"]) == beside / "here" / f"seed-{cache['seed']}"
        assert (cache["views"], cache["bytes"], cache["bytes_per_sample"]) == (2, 2 * SAMPLES * 20, 20)


def test_mistakes_are_told(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (beside / "recipe.yaml").write_text(recipe(beside, teacher=None, objective={"ce": 1.0}).to_yaml())
    assert main(["cache", str(beside / "recipe.yaml")]) == 2
    assert "there is no teacher" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_builder_that_is_killed_goes_on_where_it_was(beside: Path) -> None:
    (beside / "recipe.yaml").write_text(recipe(beside, data__samples=1000).to_yaml())
    program = f"""
import os, signal, sys
from limbeck.cache.store import Store
from limbeck.cli import main
before, left = Store.write, [int(sys.argv[1])]
def write(self, shard, rows):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    before(self, shard, rows)
Store.write = write
sys.exit(main(["cache", {str(beside / "recipe.yaml")!r}, "--views", "4", "--out", {str(beside / "out")!r}]))
"""
    command = [sys.executable, "-c", program]
    assert subprocess.run([*command, "3"], capture_output=True).returncode == -signal.SIGKILL
    before = {p: p.stat().st_mtime_ns for p in (beside / "out").rglob("*.npy")}
    assert len(before) == 2
    ended = subprocess.run([*command, "99"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    after = {p: p.stat().st_mtime_ns for p in (beside / "out").rglob("*.npy")}
    assert len(after) == 4
    assert before.items() <= after.items()
