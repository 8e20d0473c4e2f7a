"""Lifelong learning that is killed, done side by side, or by two processes, ends as it does undisturbed."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_run import fingerprint
from two_runs import check_equal, command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="processes are forked"),
]

MODULE = """

class Net(nn.Module):
    # Batch statistics and dropout where asked for: all that a resumed training could get wrong.
    def __init__(self, num_classes: int = 10, width: int = 6, norm: bool = False):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.norm = nn.Sequential(nn.BatchNorm2d(width), nn.Dropout(0.2)) if norm else nn.Identity()
        self.linear = nn.Linear(16 * width, num_classes)

    def forward(self, x):
        return self.linear(self.norm(self.stem(x)).relu().flatten(1))
"""

RECIPE = """
name: lifelong
seeds: 1
teacher:
  model: "py:lifelong_module:Net"
  train: {epochs: 2, optimizer: {name: sgd, lr: 0.05, momentum: 0.9}}
student: {model: "py:lifelong_module:Net"}
data: {source: "py:lifelong_module:digits", batch_size: 32, eval_batch_size: 40}
scheme: {name: lifelong, old: [0, 3, 5, 8]}
objective: {cross_entropy: 1.0, kd: {weight: 1.0, temperature: 2}}
train:
  epochs: 2
  optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4}
  device: cpu
  threads: 1
export: {formats: []}
"""

NORMED = {"teacher.norm": "true", "student.norm": "true", "train.save_every": 0, "data.validation": 0.1}


def distil(folder: Path, out: str, **overrides: Any) -> dict[str, Any]:
    """A command for the run `out` in this folder."""
    return command(folder, out, RECIPE, "lifelong_module", MODULE, **overrides)


def test_killed_in_every_training_and_resumed_it_ends_to_the_bit_as_never_killed(
    tmp_path: Path, forks: Any
) -> None:
    whole, again = (distil(tmp_path, name, **NORMED) for name in ("whole", "again"))
    # The teacher takes 6 steps, control and student 6 and more.
    moments = [f"in step {step} of its process" for step in (3, 8, 7)]
    killed = [
        [{**again, "moment": moment}] for moment in (*moments, "after the weights, before evaluation.json")
    ]
    ends, said = forks([[whole], *killed, [again]])
    assert ends == [[0], *[[-signal.SIGKILL]] * len(killed), [0]], said[-6000:]
    assert "Traceback" not in said, said[-6000:]
    for role in ("teacher", "control, seed 0", "student, seed 0"):
        assert f"{role}: goes on from step" in said, said[-6000:]
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "again")


def test_side_by_side_gives_what_one_after_the_other_gives(tmp_path: Path, forks: Any) -> None:
    one, both = (distil(tmp_path, name, **NORMED, seeds=2) for name in ("one", "both"))
    both["arguments"] += ["--jobs", "2"]
    ends, said = forks([[one], [both]])
    assert ends == [[0], [0]], said[-6000:]
    found = [fingerprint(tmp_path / name) for name in ("one", "both")]
    for kind in found:  # trainings side by side write their lines in turn
        kind["metrics.jsonl"] = sorted(json.dumps(line) for line in kind["metrics.jsonl"])
    assert found[0] == found[1]
    assert len(found[0]["result.json"]["tasks"]["old"]["student"]["alone"]) == 2


def test_two_processes_give_the_curve_of_one(tmp_path: Path, forks: Any, pair: Any) -> None:
    ends, said = forks(
        [
            [distil(tmp_path, "one")],
            pair(distil(tmp_path, "two")),
            pair(distil(tmp_path, "parts", **{"train.accumulate": 2})),
        ]
    )
    assert ends == [[0], [0, 0], [0, 0]], said[-6000:]
    results = {}
    for name in ("one", "two", "parts"):
        check_equal(tmp_path / "one", tmp_path / name, 1e-6)
        results[name] = json.loads((tmp_path / name / "result.json").read_text())
        assert results[name]["tasks"] == results["one"]["tasks"]
    assert results["two"]["environment"]["processes"] == 2
    rows = load_file(tmp_path / "two/state/teacher/teacher.safetensors")["linear.weight"].shape[0]
    assert rows == 4
