"""Networks shared out among processes learn what they learn on one, and any layout goes on from any other."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_run import fingerprint
from two_runs import WHOLE_RECIPE, check_equal, command

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="processes are forked"),
]

MODULE = """

class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    # Blocks, layers outside them, widths that two does not divide, and a head that no pass reaches.
    def __init__(self, num_classes: int = 10, width: int = 7, depth: int = 3):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)
        self.spare = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x.flatten(1)))))
"""

RECIPE = """
name: sharded
seeds: 1
teacher:
  model: "py:sharded_module:Net"
  width: 12
  train: {epochs: 2, optimizer: {name: adamw, lr: 0.01}}
student: {model: "py:sharded_module:Net"}
data: {source: "py:sharded_module:digits", batch_size: 64, eval_batch_size: 40}
objective:
  cross_entropy: 0.5
  kd: 0.5
  hint: {weight: 0.1, layers: {blocks.0: blocks.0, blocks.1.mlp.0: blocks.1.mlp.0}}
train:
  epochs: 2
  optimizer: {name: adamw, lr: 0.01, weight_decay: 0.02}
  clip: 1.0
  device: cpu
  threads: 1
export: {formats: []}
"""

IN_PARTS = {**WHOLE_RECIPE, "train.accumulate": 2}
"""All that a training recipe has, in parts of batches."""

STAGED = {
    "stages": "[{name: hints, epochs: 1, objective: {hint: {layers: {blocks.1.mlp.0: blocks.1.mlp.0}}}}]",
    "objective": "{cross_entropy: 0.5, kd: 0.5}",
}
"""A first stage whose gradient begins inside a block, of whose answer the loss knows nothing."""


def distil(folder: Path, out: str, **overrides: Any) -> dict[str, Any]:
    """A command for the run `out` in this folder."""
    return command(folder, out, RECIPE, "sharded_module", MODULE, **overrides)


def test_sharded_networks_give_the_curve_of_one_process(tmp_path: Path, forks: Any, pair: Any) -> None:
    groups = {
        "one": [distil(tmp_path, "one")],
        **{
            f"one-{word}": pair(distil(tmp_path, f"one-{word}", **{"train.shard": word}))
            for word in ("teacher", "student", "both")
        },
        "recipe": [distil(tmp_path, "recipe", **IN_PARTS)],
        "recipe-both": pair(distil(tmp_path, "recipe-both", **IN_PARTS, **{"train.shard": "both"})),
        "stages": [distil(tmp_path, "stages", **STAGED)],
        "stages-both": pair(distil(tmp_path, "stages-both", **STAGED, **{"train.shard": "both"})),
    }
    ends, said = forks(list(groups.values()))
    assert all(code == 0 for group in ends for code in group), said[-6000:]
    for name in groups:
        check_equal(tmp_path / name.split("-")[0], tmp_path / name)
    assert json.loads((tmp_path / "one-both/result.json").read_text())["environment"]["processes"] == 2
    assert "Warning" not in said, said[-6000:]


def test_half_precision_and_batch_statistics_are_those_of_whole_copies(
    tmp_path: Path, forks: Any, pair: Any
) -> None:
    half = {"train.precision": "bf16", "train.accumulate": 2}
    statistics = {
        "student.model": "py:limbeck.students.small:convnet",
        "student.width": 4,
        "objective": "{cross_entropy: 0.5, kd: 0.5}",
    }
    groups = {
        f"{name}-{word}": pair(distil(tmp_path, f"{name}-{word}", **options, **{"train.shard": word}))
        for name, options in {"half": half, "statistics": statistics}.items()
        for word in ("[]", "both")
    }
    ends, said = forks(list(groups.values()))
    assert all(code == 0 for group in ends for code in group), said[-6000:]
    for name in ("half", "statistics"):
        check_equal(tmp_path / f"{name}-[]", tmp_path / f"{name}-both")


def stopped(group: list[dict[str, Any]], moment: str) -> list[dict[str, Any]]:
    """The same commands, which are killed there."""
    return [{**command, "moment": moment} for command in group]


def test_each_layout_goes_on_from_what_another_saved(tmp_path: Path, forks: Any, pair: Any) -> None:
    options = {**IN_PARTS, "train.save_every": 0}
    moment = "in step {} of its process"
    one = [distil(tmp_path, "again", **options)]
    sharded = pair(distil(tmp_path, "again", **options, **{"train.shard": "both"}))
    copies = pair(distil(tmp_path, "again", **options))
    # The teacher takes 6 steps, control and student 6 each.
    groups = [
        [distil(tmp_path, "whole", **options)],
        stopped(one, moment.format(3)),
        stopped(sharded, moment.format(3)),
        stopped(copies, moment.format(3)),
        stopped(sharded, moment.format(4)),
        stopped(one, moment.format(2)),
        copies,
    ]
    ends, said = forks(groups)
    assert ends[0] == [0], said[-6000:]
    assert [end for group in ends[1:-1] for end in group] == [-signal.SIGKILL] * 8, said[-6000:]
    assert ends[-1] == [0, 0], said[-6000:]
    assert said.count("goes on from step") >= 3
    check_equal(tmp_path / "whole", tmp_path / "again")


def test_sharded_and_killed_ends_to_the_bit_as_never_killed(tmp_path: Path, forks: Any, pair: Any) -> None:
    options = {**IN_PARTS, "train.save_every": 0, "train.shard": "both"}
    again = pair(distil(tmp_path, "again", **options))
    moments = ("in step 2 of its process", "in the evaluation after an epoch", "in step 7 of its process")
    killed = [stopped(again, moment) for moment in moments]
    ends, said = forks([pair(distil(tmp_path, "whole", **options)), *killed, again])
    assert ends[0] == ends[-1] == [0, 0], said[-6000:]
    assert ends[1:-1] == [[-signal.SIGKILL] * 2] * 3, said[-6000:]
    assert fingerprint(tmp_path / "whole") == fingerprint(tmp_path / "again")


def test_what_cannot_work_is_told_before_anything_is_trained(tmp_path: Path, forks: Any, pair: Any) -> None:
    apart = [pair(distil(tmp_path, name))[rank] for rank, name in enumerate(("here", "there"))]
    for key in ("MASTER_PORT", "MASTER_ADDR"):
        apart[1]["environment"][key] = apart[0]["environment"][key]
    unfit = {
        "train.shard": "student",
        "train.optimizer": "{name: adamp, lr: 0.01}",
        "teacher.train.epochs": 1,
    }
    alone = {"train.shard": "both", "train.epochs": 0, "teacher.train.epochs": 0}
    groups = [pair(distil(tmp_path, "unfit", **unfit)), apart, [distil(tmp_path, "alone", **alone)]]
    ends, said = forks(groups)
    assert ends == [[2, 2], [2, 2], [0]], said[-6000:]
    assert 'train.optimizer.name: "adamp" does not work on parameters that are shared out' in said
    assert "here: 1 of 2 processes do not see what the first one writes there." in said
    assert "train.shard: has no effect on one process" in said
    assert not (tmp_path / "unfit/metrics.jsonl").exists()
    assert "Traceback" not in said, said[-6000:]
