"""What `limbeck check` says of the ways to be faster."""

from typing import Any

import pytest

from limbeck.commands import hastening

RECIPE = """
name: speed
teacher: {model: "py:limbeck.students.small:mlp", width: 64, depth: 3, weights: teacher.safetensors}
student: {model: "py:limbeck.students.small:mlp", width: 8}
data: {source: digits, batch_size: 64, samples: 640}
objective: {cross_entropy: 0.1, kd: 0.9}
train: {epochs: 4, threads: 1}
"""


@pytest.fixture
def check(call: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    import torch
    from safetensors.torch import save_file

    from limbeck.students.small import mlp

    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "caches"))
    torch.manual_seed(0)
    network = mlp((8, 8), width=64, depth=3)
    save_file(network.state_dict(), tmp_path / "teacher.safetensors")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return lambda *words: call("check", str(tmp_path / "recipe.yaml"), *words)


def test_a_short_run_is_as_plain_as_it_can_be(check: Any) -> None:
    found = check("--json").json["speed"]
    assert found["compile"] == {"given": "auto", "will": "no", "from_seconds": 600.0}
    assert found["backend"]["will"] == "eager"
    assert found["backend"]["offered"][0] == "eager"
    assert found["cache"]["will"] == "ask"
    assert (found["cache"]["views"], found["cache"]["bytes"]) == (4, 4 * 640 * 20)
    assert 0 < found["teacher_share"] < 1


def test_a_long_run_tries(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hastening, "COMPILES_FROM", 0.0)
    monkeypatch.setattr(hastening, "TRIES_FROM", 0.0)
    said = check().out
    assert "teacher.backend: tried (" in said
    assert "train.compile: tried first" in said


def test_what_the_recipe_names_is_told(check: Any) -> None:
    said = check("teacher.cache=2", "teacher.backend=onnxruntime", "train.compile=false").out
    assert "teacher.cache: 2 views, 25.6 kB, of which 0 are there; a step then takes about 0." in said
    assert "teacher.backend: onnxruntime" in said
    assert "train.compile: no\n" in said


def test_a_cache_that_lies_ready_is_told(check: Any, call: Any, tmp_path: Any) -> None:
    call("cache", str(tmp_path / "recipe.yaml"), "--json")
    found = check("--json").json["speed"]["cache"]
    assert (found["will"], found["there"], found["views"]) == ("replay", 4, 4)
    assert "teacher.cache: 4 views, 51.2 kB, is there" in check().out


def test_plain_training_has_no_teacher_to_hasten(check: Any) -> None:
    found = check("teacher=", "objective={ce: 1}", "control=false", "--json").json["speed"]
    assert (found["teacher_share"], found["backend"], found["cache"]) == (None, None, None)
