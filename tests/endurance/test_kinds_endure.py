"""Every kind of scheme as a run: killed and resumed to the bit, and two processes do what one does."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_run import fingerprint
from two_runs import command, kind_recipe, lines

from limbeck.schemes import catalogue

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are forked")]

KINDS = [(family, kind) for family in catalogue.FAMILIES for kind in catalogue.kinds(family)]

OPTIONS: dict[str, dict[str, Any]] = {"snapshot": {"cycles": 2}}
"""What differs from the published options, in so few epochs."""


def run(tmp_path: Path, family: str, kind: str, out: str, **overrides: Any) -> dict[str, Any]:
    folder = tmp_path / kind
    folder.mkdir(exist_ok=True)
    objective = catalogue.get(family, kind).published["objective"]
    text = kind_recipe(family, kind, OPTIONS.get(kind, {}), objective)
    return command(folder, out, text, "kinds_module", "", **overrides)


def test_killed_and_resumed_every_kind_ends_as_never_killed(tmp_path: Path, forks: Any) -> None:
    groups, wanted = [], []
    for family, kind in KINDS:
        killed = {**run(tmp_path, family, kind, "again"), "moment": "in step 6 of its process"}
        late = {**run(tmp_path, family, kind, "again"), "moment": "after the weights, before evaluation.json"}
        again = run(tmp_path, family, kind, "again")
        groups += [[run(tmp_path, family, kind, "whole")], [killed], [late], [again]]
        wanted += [[0], [-signal.SIGKILL], [-signal.SIGKILL], [0]]
    ends, said = forks(groups)
    assert ends == wanted, said[-6000:]
    for _, kind in KINDS:
        assert fingerprint(tmp_path / kind / "whole") == fingerprint(tmp_path / kind / "again"), kind


def test_two_processes_do_what_one_does_for_every_kind(tmp_path: Path, forks: Any, pair: Any) -> None:
    # Statistics of a batch are those of its part in each process, so there are none.
    plain = {"student.batch_norm": "false"}
    groups = []
    for family, kind in KINDS:
        groups.append([run(tmp_path, family, kind, "one", **plain)])
        groups.append(pair(run(tmp_path, family, kind, "two", **plain)))
    ends, said = forks(groups)
    assert all(code == 0 for group in ends for code in group), said[-6000:]
    for _, kind in KINDS:
        one, two = tmp_path / kind / "one", tmp_path / kind / "two"
        names = sorted(str(p.relative_to(one)) for p in one.rglob("*.safetensors"))
        assert names == sorted(str(p.relative_to(two)) for p in two.rglob("*.safetensors"))
        for name in names:
            torch.testing.assert_close(
                load_file(two / name), load_file(one / name), atol=1e-5, rtol=1e-5, msg=f"{kind}: {name}"
            )
        for before, after in zip(lines(one), lines(two), strict=True):
            assert after["losses"] == pytest.approx(before["losses"], abs=1e-5), kind
            assert after["accuracy"] == before["accuracy"], kind
        assert json.loads((two / "result.json").read_text())["environment"]["processes"] == 2
