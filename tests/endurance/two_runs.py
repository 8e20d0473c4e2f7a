"""What the tests of several processes share: data, a recipe with all there is, and when two runs agree."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from limbeck.reading import write_yaml

__all__ = ["DIGITS", "PLAIN_NET", "WHOLE_RECIPE", "check_equal", "command", "kind_recipe", "lines"]

DIGITS = """
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset


def digits():
    # 101 test samples: the processes get unequal numbers of them.
    read = load_digits()
    images = torch.from_numpy(read.images / 16).float()[:, None]
    targets = torch.from_numpy(read.target)
    return TensorDataset(images[:256], targets[:256]), TensorDataset(images[300:401], targets[300:401])
"""
"""The head of a module beside a recipe: its data set."""

PLAIN_NET = """

class Net(nn.Module):
    # No batch statistics: two processes would keep their own.
    def __init__(self, num_classes: int = 10, width: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.linear = nn.Linear(16 * width, num_classes)

    def forward(self, x):
        return self.linear(self.stem(x).relu().flatten(1))
"""
"""The rest of such a module: a small network."""

WHOLE_RECIPE = {
    "data.validation": 0.25,
    "data.views": "{crop: 1, flip: false, erase: 0.3}",
    "data.mix": "{mixup: 0.2, cutmix: 1.0, mode: elem}",
    "data.repeats": 3,
    "metrics": "[top5]",
    "train.optimizer": "{name: lamb, lr: 0.01, weight_decay: 0.02}",
    "train.schedule": "{name: cosine, warmup_epochs: 0.5, cooldown_epochs: 0.5, final: 0.01}",
    "train.decay_bias_and_norm": "false",
    "train.ema": 0.9,
    "train.checkpoint": "{take: average, best: 2, watch: loss}",
}
"""All that a training recipe has."""


def command(folder: Path, out: str, recipe: str, module: str, code: str, **overrides: Any) -> dict[str, Any]:
    """What starts the run `out` of a recipe in this folder, with a module of networks beside it."""
    file = folder / "recipe.yaml"
    file.write_text(recipe)
    (folder / f"{module}.py").write_text(DIGITS + code)
    changed = [f"{key}={value}" for key, value in overrides.items()]
    return {"arguments": ["distill", str(file), *changed, "--out", str(folder / out), "--resume"]}


def kind_recipe(family: str, kind: str, options: dict[str, Any], objective: Any) -> str:
    """A small run of a kind of scheme, with a network and data of `kinds_module`; every step is saved."""
    return write_yaml(
        {
            "name": "kinds",
            "student": {"model": "py:limbeck.students.small:convnet", "width": 4, "depth": 3},
            "data": {"source": "py:kinds_module:digits", "batch_size": 64, "eval_batch_size": 40},
            "objective": objective,
            "scheme": {"name": family, "kind": kind, **options},
            "train": {
                "epochs": 2,
                "device": "cpu",
                "threads": 1,
                "save_every": 0,
                "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
            },
            "control": False,
            "export": {"formats": []},
        }
    )


def lines(run: Path) -> list[dict[str, Any]]:
    """Those of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def check_equal(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """The same weights and the same curve."""
    names = sorted(str(p.relative_to(one)) for p in one.rglob("*.safetensors"))
    assert names == sorted(str(p.relative_to(other)) for p in other.rglob("*.safetensors"))
    for name in names:
        expected, found = (load_file(run / name) for run in (one, other))
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)
    before, after = lines(one), lines(other)
    assert len(before) == len(after) == 6
    for wanted, got in zip(before, after, strict=True):
        same = ("role", "seed", "epoch", "step", "lr", "accuracy")
        assert {k: wanted[k] for k in same} == {k: got[k] for k in same}
        assert got["losses"] == pytest.approx(wanted["losses"], abs=tolerance)
        assert got["test_loss"] == pytest.approx(wanted["test_loss"], abs=tolerance)
