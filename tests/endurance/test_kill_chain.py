"""A chain killed at any moment and resumed ends as one that was never killed; several processes share one."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import LINKED, arguments, fingerprint_of_chain, write_recipe
from two_runs import PLAIN_NET, command

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are forked")]

MOMENTS = [
    # Of the chain itself, and of its first link: ten steps of the teacher, ten of the assistant.
    "while recipe.yaml is written",
    "before the first step",
    "in step 13 of its process",
    "inside a save, before the renaming",
    "while the weights are written",
    "after the weights, before evaluation.json",
    "while result.json is written",
    "before the page",
    # Of its second: ten steps of the control, ten of the student.
    "inside the first save, tensors half written",
    "in step 7 of its process",
    "in the evaluation after an epoch",
    "while a line of metrics.jsonl is written",
    "after evaluation.json, before the states go",
    "in step 4 of its process",
    "in the export",
    "while result.json is written",
    # Both links are done; now the chain's own.
    "while result.json is written",
    "before the page",
]


@pytest.fixture(scope="module")
def undisturbed(forks: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recipe with a chain, and what its run found that nobody disturbed."""
    folder = tmp_path_factory.mktemp("chain")
    recipe = write_recipe(folder / "recipe")
    ends, said = forks([[{"arguments": arguments(recipe, folder / "run", LINKED)}]])
    assert ends == [[0]], said[-6000:]
    return recipe, fingerprint_of_chain(folder / "run")


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    assert sorted(one) == sorted(other)
    nested = [f"{k}/{n}" for k, v in one.items() if isinstance(v, dict) for n in v if v[n] != other[k].get(n)]
    return [*nested, *(k for k, v in one.items() if v != other[k])]


def test_killed_at_eighteen_moments_of_a_chain_and_resumed_each_time(
    tmp_path: Path, forks: Any, undisturbed: Any
) -> None:
    recipe, expected = undisturbed
    line = {"arguments": arguments(recipe, tmp_path / "run", LINKED)}
    ends, said = forks([[{**line, "moment": moment}] for moment in MOMENTS] + [[line]])
    survived = [m for m, end in zip(MOMENTS, ends[:-1], strict=True) if end != [-signal.SIGKILL]]
    assert not survived, f"never reached, or failed: {survived}\n{said[-6000:]}"
    assert ends[-1] == [0], said[-6000:]
    assert differing(expected, fingerprint_of_chain(tmp_path / "run")) == []
    for folder in (tmp_path / "run", *(tmp_path / "run/chain").iterdir()):
        assert (folder / "report.html").exists()
    left = [str(p.relative_to(tmp_path)) for p in (tmp_path / "run").rglob(".*") if p.name != ".lock"]
    assert left == []
    assert not list((tmp_path / "run").rglob("step-*")), "states go when their training is done"


def test_ctrl_c_in_every_link(tmp_path: Path, forks: Any, undisturbed: Any) -> None:
    recipe, expected = undisturbed
    line = {"arguments": arguments(recipe, tmp_path / "run", LINKED)}
    # In the teacher; in an evaluation of the assistant; at once, in the second link, whose states are saved.
    moments = ["Ctrl-C in a step", "Ctrl-C in an evaluation", "in step 20 of its process", "Ctrl-C twice"]
    ends, said = forks([[{**line, "moment": moment}] for moment in moments])
    assert ends == [[130], [130], [-signal.SIGKILL], [130]], said[-6000:]
    assert "Traceback" not in said, said[-6000:]
    assert said.count("--resume") == 3
    assert "link 2 of 2: student, taught by assistant" in said
    ends, said = forks([[line]])
    assert ends == [[0]], said[-6000:]
    assert differing(expected, fingerprint_of_chain(tmp_path / "run")) == []


RECIPE = """
name: processes
seeds: 1
teacher: null
student: {model: "py:chained_module:Net"}
data: {source: "py:chained_module:digits", batch_size: 64, eval_batch_size: 40}
objective: {cross_entropy: 0.5, kd: 0.5}
chain: {generations: 2, ensemble: true}
train:
  epochs: 2
  optimizer: {name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4}
  device: cpu
  threads: 1
  save_every: 0
export: {formats: []}
"""


def test_two_processes_give_the_chain_of_one_also_when_killed(tmp_path: Path, forks: Any, pair: Any) -> None:
    def started(out: str) -> dict[str, Any]:
        return command(tmp_path, out, RECIPE, "chained_module", PLAIN_NET)

    killed = pair(started("again"))
    for process in killed:  # a generation takes 8 steps
        process["moment"] = "in step 12 of its process"
    ends, said = forks([[started("one")], pair(started("two")), killed, pair(started("again"))])
    assert ends == [[0], [0, 0], [-signal.SIGKILL] * 2, [0, 0]], said[-6000:]
    assert "goes on from step" in said
    one, two, again = (tmp_path / name for name in ("one", "two", "again"))
    assert differing(fingerprint_of_chain(two), fingerprint_of_chain(again)) == []
    for name in ("student.safetensors", "chain/1-generation-1/student.safetensors"):
        torch.testing.assert_close(load_file(one / name), load_file(two / name), atol=1e-6, rtol=1e-6)
    alone, both = (json.loads((out / "result.json").read_text()) for out in (one, two))
    for part in ("control", "student", "ensemble"):
        assert alone[part]["accuracy"] == both[part]["accuracy"]
    assert both["environment"]["processes"] == 2
