"""A run killed at any moment and resumed ends as one that was never killed, to the bit."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from moments import MOMENTS, TROUBLES
from tiny_run import STAGED, arguments, fingerprint, write_recipe

from limbeck.runfolder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are forked")]


def check_same(run: Path, expected: dict[str, Any]) -> None:
    """The run found what the undisturbed one found, and nothing half-done lies about."""
    found = fingerprint(run)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if expected[name] != found[name]] == []
    # Of each of three trainings what is taken and the best epoch's, and the student at the top.
    assert len([name for name in found if name.endswith(".safetensors")]) == 7
    assert (run / "report.html").exists()
    assert [str(p.relative_to(run)) for p in run.rglob(".*") if p.name != ".lock"] == []
    assert not list((run / "state").glob("*/step-*")), "states go when their training is done"


def test_killed_at_eighteen_moments_in_one_run_and_resumed_each_time(
    tmp_path: Path, forks: Any, whole: Any
) -> None:
    recipe, expected = whole
    command = arguments(recipe, tmp_path / "run")
    ends, said = forks([[{"arguments": command, "moment": m}] for m in MOMENTS] + [[{"arguments": command}]])
    survived = [m for m, end in zip(MOMENTS, ends[:-1], strict=True) if end != [-signal.SIGKILL]]
    assert not survived, f"never reached, or failed: {survived}\n{said[-6000:]}"
    assert ends[-1] == [0], said[-6000:]
    check_same(tmp_path / "run", expected)


def tear(run: Path) -> str:
    """Flip a bit of the newest state, and cut its description; the name of the one before."""
    states = sorted(run.glob("state/*/step-*"))
    assert len(states) == 2
    tensors = states[-1] / "tensors.safetensors"
    changed = bytearray(tensors.read_bytes())
    changed[-1] ^= 1
    tensors.write_bytes(changed)
    return states[0].name


def test_ctrl_c_full_disk_and_torn_states_in_one_run(tmp_path: Path, forks: Any, whole: Any) -> None:
    recipe, expected = whole
    run = tmp_path / "run"
    command = arguments(recipe, run)

    def go(moment: str | None, *more: str) -> tuple[int, str]:
        ends, said = forks([[{"arguments": [*command, *more], "moment": moment}]])
        assert "Traceback" not in said, said[-6000:]
        return ends[0][0], said

    for moment in TROUBLES:
        code, said = go(moment)
        if moment.startswith("Ctrl-C"):
            assert code == 130, f"{moment}\n{said[-6000:]}"
            assert "--resume" in said
        else:
            assert code == 1, f"{moment}\n{said[-6000:]}"
            assert "disk is full" in said or "No space left on device" in said
    # With a process that reads samples, which must not keep the folder locked when the run is killed.
    code, said = go("between two updates of the student", "train.workers=1")
    assert code == -signal.SIGKILL, said[-6000:]
    before = int(tear(run).removeprefix("step-"))
    with RunFolder(run).lock():
        code, said = go(None)
        assert code == 2
        assert "in use by another process" in said
    code, said = go(None)
    assert code == 0, said[-6000:]
    assert f"goes on from step {before}\n" in said
    check_same(run, expected)


def test_killed_in_every_stage_and_resumed_each_time(tmp_path: Path, forks: Any) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    more = ["objective=" + " ".join(STAGED.split()), "train.epochs=3", "control=false"]

    def command(out: str) -> dict[str, Any]:
        return {"arguments": arguments(recipe, tmp_path / out, *more)}

    # The teacher takes 10 steps; a stage of an epoch takes 5, and there are two before the objective itself.
    moments = [f"in step {n} of its process" for n in (13, 3, 5, 6, 7)]
    ends, said = forks(
        [[command("whole")], *([{**command("run"), "moment": m}] for m in moments), [command("run")]]
    )
    assert ends == [[0], *[[-signal.SIGKILL]] * len(moments), [0]], said[-6000:]
    assert "factor_transfer: goes on from step" in said
    assert "activation_boundary: goes on from step" in said
    expected, found = fingerprint(tmp_path / "whole"), fingerprint(tmp_path / "run")
    assert [name for name in expected if expected[name] != found[name]] == []
    stages = [
        (line.get("stage"), line["step"]) for line in found["metrics.jsonl"] if line["role"] == "student"
    ]
    assert stages == [("activation_boundary", 5), ("factor_transfer", 10), (None, 15), (None, 20)]
