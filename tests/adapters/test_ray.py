"""A recipe under Ray Train: the run of one process, and the same words when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limbeck.adapters import ray as adapter
from limbeck.errors import InputError, WorkError

HERE = Path(__file__).parent

RECIPE = """
name: on-ray
teacher: {model: "py:ray_nets:net", width: 12, train: {epochs: 1}}
student: {model: "py:ray_nets:Student"}
data: {source: digits, samples: 256, batch_size: 64, eval_batch_size: 100}
objective: {cross_entropy: 0.5, kd: 0.5}
train: {epochs: 2, optimizer: {name: adamw, lr: 0.01}, ema: 0.9, device: cpu, threads: 1, save_every: 0}
control: false
export: {formats: []}
"""
NETWORKS = """
import os, pathlib, signal
from torch import nn

MARK = pathlib.Path(__file__).with_name("was-lost")

def net(num_classes: int = 10, width: int = 6) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))

class Student(nn.Module):
    # The second process is lost in the second epoch, once: as if its machine went down.
    def __init__(self, num_classes: int = 10, width: int = 6):
        super().__init__()
        self.net = net(num_classes, width)
        self.asked = 0

    def forward(self, x):
        self.asked += self.training
        if self.asked == 7 and os.environ.get("RANK") == "1" and not MARK.exists():
            MARK.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.net(x)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "ray_nets.py").write_text(NETWORKS)
    return tmp_path


def on_ray(folder: Path, commands: list[list[str]]) -> tuple[list[int], str]:
    """Exit codes of the commands, and all that was said."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    own = {"HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": ""}
    done = subprocess.run(
        [sys.executable, str(HERE / "on_ray.py"), "2"],
        cwd=folder,
        env={k: v for k, v in {**os.environ, **threads, **own}.items() if v and k != "RAY_ADDRESS"},
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    ends: list[int] = json.loads(done.stdout.splitlines()[-1])
    return ends, done.stderr


def plain(folder: Path) -> None:
    command = [sys.executable, "-m", "limbeck", "distill", "recipe.yaml", "--out", "one"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_workers_one_of_which_is_lost_do_what_one_process_does(folder: Path) -> None:
    plain(folder)
    two = ["recipe.yaml", "--workers", "2"]
    assert not (folder / "was-lost").exists()
    ends, said = on_ray(
        folder,
        [
            [*two, "--out", "two", "--retries", "1"],
            [*two, "--out", "two"],
            [*two, "student.widht=9", "--out", "unfit"],
            ["recipe.yaml", "--workers", "3", "--out", "room"],
        ],
    )
    assert ends == [0, 2, 2, 2], said[-6000:]
    torch.testing.assert_close(
        load_file(folder / "two/student.safetensors"), load_file(folder / "one/student.safetensors")
    )
    for one, other in zip(lines(folder / "one"), lines(folder / "two"), strict=True):
        assert other["losses"] == pytest.approx(one["losses"], abs=1e-5)
    assert json.loads((folder / "two/result.json").read_text())["environment"]["processes"] == 2
    assert (folder / "was-lost").exists()
    assert "student, seed 0: goes on from step" in said
    assert "two holds a run already; --resume goes on with it" in said
    assert "limbeck: --workers: they need 3 CPUs in all, and this machine has 2." in said
    (unfit,) = (line for line in said.splitlines() if line.startswith("limbeck: student"))
    assert '"widht". Did you mean "width"?' in unfit
    assert not list(folder.glob(".*.ray")), "Ray's own notes are gone"


def test_what_workers_say_comes_out_as_one_error_of_ours() -> None:
    class WrappedError(Exception):
        def __init__(self, failures: dict[int, Exception]) -> None:
            super().__init__("many lines\nof a trace")
            self.worker_failures = failures

    survivor = WorkError("another process of this run has stopped; its own message says why.")
    cause = WorkError("the disk is full")
    told = adapter._told(WrappedError({0: survivor, 1: cause}))
    assert (type(told), str(told)) == (WorkError, "the disk is full")
    told = adapter._told(WrappedError({0: survivor, 1: InputError("data.source: is missing")}))
    assert (type(told), str(told)) == (InputError, "data.source: is missing")
    told = adapter._told(WrappedError({1: RuntimeError("lost\nmore")}))
    assert str(told) == "Ray's workers failed with RuntimeError: lost"


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'limbeck\[ray\]'"):
        adapter._ray()


def test_a_wrong_word_is_told_without_starting_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert adapter.main(["recipe.yaml", "--worker", "2"]) == 2
    assert 'unknown option "--worker".' in capsys.readouterr().err
    assert "ray" not in sys.modules
