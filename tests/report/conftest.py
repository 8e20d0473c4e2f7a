"""Run folders as a finished run leaves them. The figures in them are made up: here they are the input."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """name: {name}
seeds: {seeds}
teacher: {{model: "cifar:resnet56", shortcut: pad, weights: resnet56-4bfd9763.th}}
student: {{model: "cifar:resnet20", shortcut: pad}}
data:
  source: cifar10
  batch_size: 128
  views: {{crop: 4, flip: true}}
objective:
  cross_entropy: {{weight: 0.1}}
  kd: {{weight: 0.9, temperature: 4}}
scheme: offline
train:
  epochs: {epochs}
  optimizer: {{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 0.0005}}
  schedule: {{name: cosine}}
control: true
export: {{formats: [onnx, int8]}}
"""

CONTROL = [0.9012, 0.9031, 0.8994]
STUDENT = [0.9088, 0.9121, 0.9079]


def result(name: str = "cifar10-resnet56-resnet20") -> dict[str, Any]:
    """A result.json with everything in it, over three seeds."""
    return {
        "name": name,
        "limbeck": "0.1.0",
        "seeds": [0, 1, 2],
        "metric": "accuracy",
        "teacher": {
            "accuracy": 0.9339,
            "parameters": 853018,
            "bytes": 3450000,
            "latency_ms": 6.02,
            "frozen": True,
            "ece": 0.0398,
            "loss": 0.31,
        },
        "control": {
            "accuracy": CONTROL,
            "best": [0.9020, 0.9031, 0.9003],
            "agreement": [0.914, 0.9152, 0.9118],
            "ece": [0.031, 0.029, 0.033],
            "per_class": [[0.90 + 0.005 * c - 0.01 * (c % 3) for c in range(10)]] * 3,
        },
        "student": {
            "accuracy": STUDENT,
            "best": [0.9090, 0.9121, 0.9085],
            "agreement": [0.9302, 0.9331, 0.9288],
            "ece": [0.021, 0.019, 0.024],
            "parameters": 269722,
            "bytes": 1096000,
            "latency_ms": 2.11,
            "per_class": [[0.905 + 0.005 * c - 0.008 * (c % 4) for c in range(10)]] * 3,
            "kl": [0.2, 0.19, 0.21],
        },
        "gain": {"mean": 0.0084, "interval": [0.0069, 0.0098], "seeds": 3},
        "exports": {
            "onnx": {
                "file": "student.onnx",
                "accuracy": 0.9088,
                "agreement": 1.0,
                "bytes": 1121000,
                "latency_ms": 0.84,
            },
            "int8": {
                "file": "student.int8.onnx",
                "accuracy": 0.9071,
                "agreement": 0.9265,
                "bytes": 371000,
                "latency_ms": 0.52,
            },
        },
        "seconds": {"teacher": 41.5, "control": 4210.2, "student": 5890.7},
        "environment": {"torch": "2.15.0", "device": "cpu", "threads": 2},
    }


def metrics(epochs: int = 15) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl: three seeds of control and student, as they come in time."""
    lines = []
    for seed in range(3):
        for role, final in (("control", CONTROL[seed]), ("student", STUDENT[seed])):
            for epoch in range(1, epochs + 1):
                rest = math.exp(-4.5 * epoch / epochs)
                losses = {"loss": 0.05 + 1.9 * rest, "cross_entropy": 0.08 + 1.8 * rest}
                if role == "student":
                    losses["kd"] = 0.11 + 3.1 * rest
                wobble = 0.02 * rest * math.sin(5 * epoch + seed + len(role))
                accuracy = final - 0.45 * rest * (1 - math.exp(-epoch)) + wobble
                lines.append(
                    {
                        "role": role,
                        "seed": seed,
                        "epoch": epoch,
                        "step": 390 * epoch,
                        "lr": 0.1 * rest,
                        "losses": losses,
                        "accuracy": accuracy,
                        "test_loss": 1.2 * rest + 0.3,
                        "seconds": 12.3,
                    }
                )
    return lines


Make = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> Make:
    """Writes a run folder; `found` and `lines` replace what a full run holds."""

    def make(
        name: str = "run",
        *,
        found: dict[str, Any] | None = None,
        lines: list[dict[str, Any]] | None = None,
        epochs: int = 15,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        found = result() if found is None else found
        (folder / "result.json").write_text(json.dumps(found), encoding="utf-8")
        text = RECIPE.format(name=found.get("name"), seeds=found.get("seeds") or 1, epochs=epochs)
        (folder / "recipe.yaml").write_text(text, encoding="utf-8")
        lines = metrics(epochs) if lines is None else lines
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
        return folder

    return make
