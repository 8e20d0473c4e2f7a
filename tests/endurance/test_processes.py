"""Two processes that work together do what one does with the same total batch."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny_run import fingerprint
from two_runs import WHOLE_RECIPE, check_equal, command, lines

from limbeck.data.plans import Plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="processes are forked"),
]

MODULE = """

class Net(nn.Module):
    # No batch statistics; a second head that no pass reaches, as many networks carry one.
    def __init__(self, num_classes: int = 10, width: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.linear = nn.Linear(16 * width, num_classes)
        self.spare = nn.Linear(16 * width, num_classes)

    def forward(self, x):
        return self.linear(self.stem(x).relu().flatten(1))


class Exploding(nn.Module):
    # The answer to one sample of the training set is infinite, and with it the loss of one process.
    def __init__(self, bad: int, num_classes: int = 10):
        super().__init__()
        self.linear = nn.Linear(64, num_classes)
        self.register_buffer("bad", digits()[0][bad][0].flatten())

    def forward(self, x):
        x = x.flatten(1)
        same = (x - self.bad).abs().amax(1, keepdim=True) < 1e-6
        return self.linear(x) + torch.where(same, float("inf"), 0.0)
"""

RECIPE = """
name: processes
seeds: 1
teacher:
  model: "py:processes_module:Net"
  width: 12
  train: {epochs: 2, optimizer: {name: sgd, lr: 0.05, momentum: 0.9}}
student: {model: "py:processes_module:Net"}
data: {source: "py:processes_module:digits", batch_size: 64, eval_batch_size: 40}
objective: {cross_entropy: 0.5, kd: 0.5}
train:
  epochs: 2
  optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4}
  clip: 1.0
  device: cpu
  threads: 1
export: {formats: []}
"""

STATISTICS = {"student.model": "py:limbeck.students.small:convnet", "student.width": "4"}


def distil(folder: Path, out: str, **overrides: Any) -> dict[str, Any]:
    """A command for the run `out` in this folder."""
    return command(folder, out, RECIPE, "processes_module", MODULE, **overrides)


CACHED = {"teacher.cache": "{store: fp32, folder: answers}"}
"""Both processes make it, and both read it."""

HINTS = "[{name: hints, epochs: 1, objective: {hint: {layers: {stem: stem}}}}]"
"""A first stage of the student, without batch statistics."""

FACTORS = "{cross_entropy: 0.5, factor_transfer: {weight: 10, layers: {stem: stem}}}"
"""A method whose own layers are trained first, and have batch statistics."""


FEATURES = """
{cross_entropy: 1.0,
 attention_transfer: {weight: 1.0, layers: auto}, neuron_selectivity: {weight: 0.1, layers: auto},
 factor_transfer: {weight: 1.0, layers: auto}, activation_boundary: {weight: 0.001, layers: auto},
 margin_relu: {weight: 0.001, layers: auto}, review_kd: {weight: 0.1, layers: auto},
 variational_information: {weight: 0.1, layers: auto}, singular_vectors: {weight: 0.1, layers: auto},
 masked_generative: {weight: 0.00001, layers: auto}, class_attention: {weight: 1.0, layers: auto},
 channel_wise: {weight: 0.1, layers: auto}, inter_channel_correlation: {weight: 1.0, layers: auto},
 projector_norm: {weight: 0.1, layers: auto}, hint: {weight: 0.1, layers: auto}}
"""
"""Every feature method that takes networks of unlike width and leaves the student's classifier alone."""


def test_processes_and_parts_give_the_curve_of_one(tmp_path: Path, forks: Any, pair: Any) -> None:
    few = {"data.labels": 100}
    groups = {
        "one": [distil(tmp_path, "one")],
        "two": pair(distil(tmp_path, "two")),
        "parts2": [distil(tmp_path, "parts2", **{"train.accumulate": 2})],
        "parts4": [distil(tmp_path, "parts4", **{"train.accumulate": 4})],
        "few": [distil(tmp_path, "few", **few)],
        "few-two": pair(distil(tmp_path, "few-two", **few)),
        "few-both": pair(distil(tmp_path, "few-both", **few, **{"train.accumulate": 2})),
        "recipe": [distil(tmp_path, "recipe", **WHOLE_RECIPE)],
        "recipe-two": pair(distil(tmp_path, "recipe-two", **WHOLE_RECIPE)),
        "recipe-both": pair(distil(tmp_path, "recipe-both", **WHOLE_RECIPE, **{"train.accumulate": 2})),
        "cached-two": pair(distil(tmp_path, "cached-two", **WHOLE_RECIPE, **CACHED)),
        "staged": [distil(tmp_path, "staged", stages=HINTS)],
        "staged-two": pair(distil(tmp_path, "staged-two", stages=HINTS)),
        "factors-two": pair(distil(tmp_path, "factors-two", objective=FACTORS, control="false")),
    }
    ends, said = forks(list(groups.values()))
    assert all(code == 0 for group in ends for code in group), said[-6000:]
    for name in ("two", "parts2", "parts4"):
        check_equal(tmp_path / "one", tmp_path / name, 1e-6)
    for name in ("few-two", "few-both"):
        check_equal(tmp_path / "few", tmp_path / name, 1e-6)
    for name in ("recipe-two", "recipe-both", "cached-two"):
        check_equal(tmp_path / "recipe", tmp_path / name, 1e-6)
    check_equal(tmp_path / "staged", tmp_path / "staged-two", 1e-6)
    stages = [line.get("stage") for line in lines(tmp_path / "staged-two") if line["role"] == "student"]
    assert stages == ["hints", None]
    for name in groups:
        for record in (tmp_path / name).rglob("evaluation.json"):
            assert json.loads(record.read_text())["evaluation"]["samples"] == 101
    spare = "spare.weight"
    assert spare in load_file(tmp_path / "two/student.safetensors")
    assert json.loads((tmp_path / "two/result.json").read_text())["environment"]["processes"] == 2
    assert "Warning" not in said, said[-6000:]


def test_two_killed_and_resumed_end_to_the_bit_as_never_killed(tmp_path: Path, forks: Any, pair: Any) -> None:
    options = {**STATISTICS, "train.save_every": "0"}
    whole = pair(distil(tmp_path, "whole", **options))
    again = distil(tmp_path, "again", **options)
    killed = []
    for moment in ("inside a save, before the renaming", "in the evaluation after an epoch"):
        group = pair(again)
        for process in group:  # a machine that goes down takes both
            process["moment"] = moment
        killed.append(group)
    killed[0][1]["moment"] = "after back-propagation, before the update"
    ends, said = forks([whole, *killed, pair(again)])
    assert ends[1][1] == -signal.SIGKILL, said[-6000:]
    assert ends[1][0] in (1, -signal.SIGKILL), "the survivor says that the other is gone"
    assert ends[2] == [-signal.SIGKILL] * 2, said[-6000:]
    assert "Traceback" not in said, said[-6000:]
    assert ends[0] == ends[3] == [0, 0], said[-6000:]
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "again")


def test_every_feature_method_in_half_precision_killed_in_a_stage(
    tmp_path: Path, forks: Any, pair: Any
) -> None:
    options = {
        **STATISTICS,
        "teacher.model": "py:limbeck.students.small:convnet",
        "objective": " ".join(FEATURES.split()),
        "train.precision": "bf16",
        "train.save_every": "0",
        "train.epochs": 3,
        "train.optimizer.lr": 0.005,
        "control": "false",
    }
    whole, again = (pair(distil(tmp_path, name, **options)) for name in ("whole", "again"))
    killed = pair(distil(tmp_path, "again", **options))
    for process in killed:  # the teacher takes 8 steps, each stage 4
        process["moment"] = "in step 10 of its process"
    ends, said = forks([whole, killed, again])
    assert ends == [[0, 0], [-signal.SIGKILL] * 2, [0, 0]], said[-6000:]
    assert "student, seed 0, factor_transfer: goes on from step 1\n" in said
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "again")


def test_what_stops_one_process_stops_all(tmp_path: Path, forks: Any, pair: Any) -> None:
    third = list(Plan(0, 256, 64).batches(0, rank=1, world=2))[2][0]
    exploding = {
        "student.model": "py:processes_module:Exploding",
        "student.bad": int(third[0]),
        "train.save_every": 0,
    }
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "letter.txt").write_text("not a run")
    ends, said = forks([pair(distil(tmp_path, "nan", **exploding)), pair(distil(tmp_path, "taken"))])
    assert ends == [[1, 1], [2, 2]], said[-6000:]
    assert 'step 3: the term "cross_entropy" became' in said
    assert "is not empty and holds no run (letter.txt)" in said
    assert "Traceback" not in said, said[-6000:]
    assert [p.name for p in sorted((tmp_path / "nan/state/seed-0-control").iterdir())] == [
        "step-000000001",
        "step-000000002",
    ]
