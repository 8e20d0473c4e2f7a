"""Trainings side by side find what one after the other finds, and die and resume with their run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import limbeck
from limbeck.errors import InputError, WorkError
from limbeck.recipe import Recipe


def weights_of(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.glob("seeds/**/*.safetensors"))}


@pytest.mark.slow
def test_side_by_side_is_the_same_to_the_bit(settings: dict[str, Any], tmp_path: Path) -> None:
    recipe = Recipe.from_dict(settings)
    one = limbeck.run(recipe, tmp_path / "one")
    two = limbeck.run(recipe, tmp_path / "two", jobs=2)
    assert len(weights_of(tmp_path / "one")) == 4
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "two")
    for part in ("teacher", "control", "student"):
        assert one[part]["accuracy"] == two[part]["accuracy"]
    assert one["student"]["agreement"] == two["student"]["agreement"]
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    found = sorted((line["role"], line["seed"], line["epoch"]) for line in map(json.loads, lines))
    assert found == sorted(
        [("teacher", 0, 1), *((r, s, e) for r in ("control", "student") for s in (0, 1) for e in (1, 2))]
    )


@pytest.mark.slow
def test_what_a_training_fails_with_is_told(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["train"] = settings["train"] | {"optimizer": {"name": "sgd", "lr": 1e30}}
    settings["teacher"] = settings["teacher"] | {"train": {"epochs": 0}}
    with pytest.raises(WorkError, match=r"(control|student), seed \d: step \d+: the (term|parameter)"):
        limbeck.run(Recipe.from_dict(settings), tmp_path / "run", jobs=2)


def start(recipe: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    words = ["distill", str(recipe), "--out", str(out), "--jobs", "2", "--json", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "limbeck.cli", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children")
    return [int(word) for word in found.read_text().split()] if found.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
def test_workers_end_with_their_run_and_it_resumes(
    settings: dict[str, Any], tmp_path: Path, how: signal.Signals
) -> None:
    settings["train"] = settings["train"] | {"epochs": 60, "save_every": 0}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(settings))
    whole = limbeck.run(Recipe.load(recipe), tmp_path / "whole")
    process = start(recipe, tmp_path / "run")
    workers: list[int] = []
    assert process.stderr is not None
    for line in process.stderr:  # until trainings are under way
        workers = children(process.pid)
        if line.startswith(("control", "student")):
            break
    assert workers
    process.send_signal(how)
    process.communicate()
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "a worker lives on"
        os.sched_yield()
    again = start(recipe, tmp_path / "run", "--resume")
    found = json.loads(again.communicate()[0])
    assert again.returncode == 0
    assert found["student"]["accuracy"] == whole["student"]["accuracy"]
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "whole")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_side_by_side_and_several_processes_exclude_each_other(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from limbeck import rehearsal

    built = rehearsal.Runtime

    def spread(*args: Any) -> Any:
        found = built(*args)
        found.world = 2
        return found

    monkeypatch.setattr(rehearsal, "Runtime", spread)
    with pytest.raises(InputError, match="--jobs"):
        limbeck.run(Recipe.from_dict(settings), tmp_path / "run", jobs=2)
