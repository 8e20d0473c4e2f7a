"""Several teachers: killed while one of them, or the student, is trained; and two processes for one."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_run import fingerprint
from two_runs import PLAIN_NET, check_equal, command, lines

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are forked")]

RECIPE = """
name: several
seeds: 1
teacher:
  - {name: wide, model: "py:several_module:Net", width: 12, train: {epochs: 1}}
  - {name: small, model: "py:several_module:Net", width: 6, label_noise: 0.5, train: {epochs: 1}}
weighting: confidence
student: {model: "py:several_module:Net"}
data: {source: "py:several_module:digits", batch_size: 64, eval_batch_size: 40, labels: 128}
objective: {cross_entropy: 0.5, kd: 0.5, hint: {weight: 0.1, layers: {stem: stem}}}
train:
  epochs: 2
  optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4}
  device: cpu
  threads: 1
export: {formats: []}
"""


def distil(folder: Path, out: str, **overrides: Any) -> dict[str, Any]:
    return command(folder, out, RECIPE, "several_module", PLAIN_NET, **overrides)


def test_killed_in_each_training_and_resumed_ends_as_never_killed(tmp_path: Path, forks: Any) -> None:
    options = {
        "weighting": "learned",
        "student.model": "py:limbeck.students.small:convnet",
        "objective.hint": "null",
        "train.save_every": 0,
    }
    killed = [distil(tmp_path, "again", **options) for _ in range(3)]
    # Of 4 steps each: the second teacher's second, the control's third, and the student's sixth of 8.
    for process, step in zip(killed, (6, 5, 12), strict=True):
        process["moment"] = f"in step {step} of its process"
    groups = [[distil(tmp_path, "whole", **options)], *([one] for one in killed)]
    ends, said = forks([*groups, [distil(tmp_path, "again", **options)]])
    assert ends == [[0], *([[-signal.SIGKILL]] * 3), [0]], said[-6000:]
    assert "Traceback" not in said, said[-6000:]
    for title in ("teacher.small", "control, seed 0", "student, seed 0"):
        assert f"{title}: goes on from step" in said, said[-6000:]
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "again")


def test_two_processes_give_the_curve_of_one(tmp_path: Path, forks: Any, pair: Any) -> None:
    kinds = ("confidence", "gradient", "learned")
    groups = [
        group
        for kind in kinds
        for group in (
            [distil(tmp_path, f"{kind}-one", weighting=kind)],
            pair(distil(tmp_path, f"{kind}-two", weighting=kind)),
        )
    ]
    ends, said = forks(groups)
    assert all(code == 0 for group in ends for code in group), said[-6000:]
    for kind in kinds:
        check_equal(tmp_path / f"{kind}-one", tmp_path / f"{kind}-two", 1e-5)
        last = [line for line in lines(tmp_path / f"{kind}-two") if line["role"] == "student"][-1]
        weights = [last["losses"][f"weight.{name}"] for name in ("wide", "small")]
        assert sum(weights) == pytest.approx(1, abs=1e-5)
        assert weights[0] != pytest.approx(0.5, abs=1e-4)
