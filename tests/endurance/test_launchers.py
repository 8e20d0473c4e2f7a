"""torchrun and accelerate start the same run in several processes, with the curve of one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

RECIPE = """
name: launched
teacher: {model: "py:launched_nets:net", width: 12}
student: {model: "py:launched_nets:net"}
data: {source: digits, samples: 256, batch_size: 64, eval_batch_size: 100, mix: {mixup: 0.2}, repeats: 2}
objective: {cross_entropy: 0.5, kd: 0.5}
train:
  epochs: 2
  optimizer: {name: adamw, lr: 0.01}
  ema: 0.9
  accumulate: 2
  device: cpu
  threads: 1
control: false
export: {formats: []}
"""
NETWORKS = """
from torch import nn

def net(num_classes: int = 10, width: int = 6) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
TWO = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "limbeck"],
    # Without a GPU, this is how accelerate starts several processes that talk by gloo.
    "accelerate": [
        "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "limbeck",
    ],
}  # fmt: skip


def launch(folder: Path, name: str, launcher: list[str]) -> list[dict[str, Any]]:
    """A run of the recipe by this launcher: the lines of its epochs."""
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "launched_nets.py").write_text(NETWORKS)
    command = [sys.executable, "-m", *launcher, "distill", "recipe.yaml", "--out", name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_of_either_launcher_do_what_one_does(tmp_path: Path) -> None:
    expected = launch(tmp_path, "one", ["limbeck"])
    whole = load_file(tmp_path / "one/student.safetensors")
    for name, launcher in TWO.items():
        found = launch(tmp_path, name, launcher)
        assert len(found) == len(expected) == 2
        for one, other in zip(expected, found, strict=True):
            assert other["losses"] == pytest.approx(one["losses"], abs=1e-5)
            assert other["accuracy"] == one["accuracy"]
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["environment"]["processes"] == 2
        torch.testing.assert_close(
            load_file(tmp_path / name / "student.safetensors"), whole, atol=1e-5, rtol=1e-5
        )
