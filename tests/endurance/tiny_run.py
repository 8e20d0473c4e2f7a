"""A whole run small enough to be killed a hundred times: digits, three small networks, every step saved."""

import csv
import json
from pathlib import Path
from typing import Any

__all__ = ["LINKED", "STAGED", "arguments", "fingerprint", "fingerprint_of_chain", "write_recipe"]

NETWORKS = '''
from torch import nn


def net(num_classes: int = 10, in_channels: int = 1, width: int = 4, dropout: float = 0.2) -> nn.Module:
    """Batch statistics and dropout: all that a resumed training could get wrong."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(width, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(width * 16, num_classes),
    )
'''

RECIPE = """
name: endurance
seeds: {seeds}
teacher:
  model: "py:endurance_nets:net"
  width: 6
  train: {{epochs: 2, optimizer: {{name: sgd, lr: 0.05, momentum: 0.9}}, save_every: 0}}
  cache: {{views: 1, features: true}}
student: {{model: "py:endurance_nets:net"}}
data:
  {{source: digits, samples: 320, batch_size: 64, eval_batch_size: 100, validation: 0.1, repeats: 2,
    mix: {{mixup: 0.2, cutmix: 1.0, mode: elem}}}}
track: [csv]
metrics: [top5]
objective: {{cross_entropy: 0.3, kd: {{weight: {{start: 0.2, end: 0.7, epochs: 2}}, temperature: 4}}}}
train:
  epochs: {epochs}
  optimizer: {{name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4}}
  schedule: {{name: cosine, warmup_epochs: 0.5, cooldown_epochs: 0.5, final: 0.1}}
  decay_bias_and_norm: false
  ema: 0.9
  checkpoint: {{take: average, best: 2, watch: loss}}
  accumulate: 2
  clip: 2.0
  device: cpu
  threads: 1
  save_every: 0
export: {{formats: [{formats}]}}
"""


STAGED = """
{cross_entropy: 1.0,
 activation_boundary: {weight: 0.01, layers: {"4": "5"}},
 factor_transfer: {weight: 10, layers: {"6": "6"}}}
"""
"""An objective whose methods bring a stage for the student alone, and then one for layers of their own."""


LINKED = 'chain=[{name: assistant, student: {model: "py:endurance_nets:net", width: 5}}, {name: student}]'
"""Settings that make a chain of it: the assistant's students, then the last ones and the direct pair."""


def write_recipe(folder: Path, *, seeds: int = 1, epochs: int = 2, formats: str = "onnx") -> Path:
    """The recipe and the module of its networks, beside each other."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "endurance_nets.py").write_text(NETWORKS)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(seeds=seeds, epochs=epochs, formats=formats))
    return recipe


def arguments(recipe: Path, out: Path, *more: str) -> list[str]:
    """What `limbeck` is called with; `--resume` is welcome from the first time on."""
    return ["distill", str(recipe), "--out", str(out), "--resume", "--json", *more]


def fingerprint(out: Path) -> dict[str, Any]:
    """All that a run found, to the bit, without what a clock says: weights, metrics, evaluations."""
    found: dict[str, Any] = {
        str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.safetensors")) if p.is_file()
    }
    found["metrics.jsonl"] = [_timeless(json.loads(t)) for t in _text(out / "metrics.jsonl").splitlines()]
    for record in sorted(out.rglob("evaluation.json")):
        found[str(record.relative_to(out))] = _timeless(json.loads(record.read_text()))
    for file in sorted(out.rglob("*.csv")):  # what a tracker got, each line once
        with file.open(newline="") as opened:
            found[str(file.relative_to(out))] = [_timeless(row) for row in csv.DictReader(opened)]
    found["result.json"] = _timeless(json.loads(_text(out / "result.json")))
    return found


def fingerprint_of_chain(out: Path) -> dict[str, Any]:
    """The same of a chain: of every link, and of its own folder."""
    found: dict[str, Any] = {link.name: fingerprint(link) for link in sorted((out / "chain").iterdir())}
    found["student"] = (out / "student.safetensors").read_bytes()
    found["result"] = _timeless(json.loads(_text(out / "result.json")))
    return found


def _text(path: Path) -> str:
    return path.read_text()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in ("seconds", "latency_ms", "date")}
    return [_timeless(v) for v in value] if isinstance(value, list) else value
