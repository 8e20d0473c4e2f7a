"""What schemes remember survives kills of two processes whose norm layers see different samples."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tiny_run import fingerprint
from two_runs import command, kind_recipe

from limbeck.schemes import catalogue

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are forked")]

SCHEMES: dict[str, dict[str, Any]] = {
    "codistillation": {"exchange": 2, "burn_in": 3},
    "pcl": {"decay": 0.5},
    "one": {"branches": 2},
    "ema": {"decay": 0.5},
    "snapshot": {"cycles": 2},
}


def family(kind: str) -> str:
    return next(name for name in catalogue.FAMILIES if kind in catalogue.kinds(name))


def run(tmp_path: Path, kind: str, out: str, **overrides: Any) -> dict[str, Any]:
    folder = tmp_path / kind
    folder.mkdir(exist_ok=True)
    objective = {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 3.0}}
    text = kind_recipe(family(kind), kind, SCHEMES[kind], objective)
    return command(folder, out, text, "kinds_module", "", **overrides)


def test_two_processes_killed_between_exchanges_end_as_never_killed(
    tmp_path: Path, forks: Any, pair: Any
) -> None:
    groups, wanted = [], []
    for kind in SCHEMES:
        killed = pair({**run(tmp_path, kind, "again"), "moment": "in step 7 of its process"})
        seldom = pair(run(tmp_path, kind, "seldom", **{"train.save_every": 10**6}))
        groups += [pair(run(tmp_path, kind, "whole")), killed, pair(run(tmp_path, kind, "again")), seldom]
        wanted += [[0, 0], [-signal.SIGKILL] * 2, [0, 0], [0, 0]]
    ends, said = forks(groups)
    assert ends == wanted, said[-6000:]
    for kind in SCHEMES:
        whole = fingerprint(tmp_path / kind / "whole")
        assert whole == fingerprint(tmp_path / kind / "again"), kind
        # Nor does it matter when states are written, which is a question of time.
        assert whole == fingerprint(tmp_path / kind / "seldom"), kind
