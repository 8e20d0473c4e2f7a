"""The command line on real data."""

from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.data


@pytest.mark.slow
def test_a_third_partys_checkpoint_scores_what_its_author_published(call, data_root: Path) -> None:
    said = call(
        "evaluate", "cifar:resnet20", "--option", "shortcut=pad", "--weights", "resnet20-12fca82f.th",
        "--data", "cifar10",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "accuracy 0.9173 (9173 right)" in said.out


@pytest.mark.slow
def test_fashion_mnist_end_to_end(call, recipe: Path, data_root: Path) -> None:
    words = "data.source=fashion_mnist", "data.samples=500", "train.epochs=1", "control=false"
    result = call("distill", recipe, *words, "--out", "out", "--json").json
    assert call("evaluate", "out", "--data", "fashion_mnist", "--json").json["accuracy"] == pytest.approx(
        result["student"]["accuracy"][0]
    )
    call("evaluate", "out/student.onnx", "--data", "cifar10").refused("takes [B, 1, 28, 28]", "3, 32, 32")


def test_photographs_made_small(call, plain: Path, data_root: Path) -> None:
    data = {"source": f"folder:{data_root / 'imagenette_mini'}", "size": 32, "samples": 40, "batch_size": 20}
    plain.write_text(yaml.safe_dump({**yaml.safe_load(plain.read_text()), "data": data}))
    found = call("check", plain, "--json").json
    assert found["data"]["classes"] == 10
    assert found["data"]["shape"] == [3, 32, 32]


def test_a_run_on_photographs_is_evaluated_at_its_own_size(call, recipe: Path, data_root: Path) -> None:
    folder = data_root / "imagenette_mini"
    data = {"source": f"folder:{folder}", "size": 32, "samples": 40, "batch_size": 20}
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "data": data}))
    result = call("distill", recipe, "train.epochs=0", "teacher.train=null", "--out", "out", "--json").json
    for model in ("out", "out/student.onnx"):
        found = call("evaluate", model, "--data", folder, "--json").json
        assert found["accuracy"] == result["student"]["accuracy"][0]
        assert found["loss"] == pytest.approx(result["student"]["loss"][0], abs=1e-4)
