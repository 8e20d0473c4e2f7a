"""The worked example of CONTRIBUTING is a method, and its test passes."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import ROOT, blocks

import limbeck
from limbeck import methods

FILES = {b.marks["file"]: b.text for b in blocks(ROOT / "CONTRIBUTING.md") if "file" in b.marks}


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


def test_the_tests_of_the_example_pass(written: Path) -> None:
    module = importlib.import_module("test_logits_mae")
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_a_recipe_can_name_the_example(written: Path) -> None:
    text = next(
        part for part in (ROOT / "CONTRIBUTING.md").read_text().split("`") if part.startswith("objective: {")
    )
    (written / "recipe.yaml").write_text(
        "name: mine\nteacher: {model: cifar:resnet20, train: {epochs: 1}}\nstudent: {model: cifar:resnet8}\n"
        f"data: {{source: digits}}\ntrain: {{epochs: 1}}\n{text}\n"
    )
    recipe = limbeck.Recipe.load(written / "recipe.yaml")
    assert list(recipe.objective) == ["cross_entropy", "logits_mae:LogitsMAE"]
    kind = methods.get("logits_mae:LogitsMAE", beside=written)
    assert methods.card(kind)["summary"] == "Mean absolute difference of the logits."
