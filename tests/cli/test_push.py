"""What `limbeck push` writes can be read where nothing else of the run is."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import limbeck
from limbeck import models
from limbeck.recipe import Recipe

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "teacher": None,
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 64, "samples": 128},
    "objective": {"cross_entropy": 1.0},
    "control": False,
    "train": {"epochs": 1, "optimizer": {"lr": 0.05}},
    "export": {"formats": []},
}

OWN = """
from torch import nn


def net(num_classes, in_channels, width=4):
    body = nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(width, num_classes))
"""


def run(folder: Path, student: dict[str, Any], beside: Path | None = None, **keys: Any) -> None:
    recipe = Recipe.from_dict({**RECIPE, "student": student, **keys}, beside and beside / "recipe.yaml")
    limbeck.run(recipe, folder)


def answers(name: str) -> torch.Tensor:
    built = models.build(name, classes=10, channels=1, size=(8, 8), options={}, where="model")
    with torch.no_grad():
        found: torch.Tensor = built.model.eval()(
            torch.rand(3, built.input.channels or 1, 8, 8, generator=torch.Generator().manual_seed(0))
        )
    return found


@pytest.mark.parametrize(
    "student",
    [{"model": "py:limbeck.students.small:convnet", "width": 6}, {"model": "timm:test_resnet"}],
    ids=["ours", "timm"],
)
def test_students_of_students_are_pushed_as_what_they_are_built_by(
    call, tmp_path: Path, student: dict[str, Any]
) -> None:
    run(tmp_path / "first", student)
    run(tmp_path / "second", {"model": f"run:{tmp_path / 'first'}"})
    assert call("push", "second", "./pushed").code == 0
    run(tmp_path / "third", {"model": f"hf:{tmp_path / 'pushed'}"})
    assert call("push", "third", "./again").code == 0
    second, third = answers("run:second"), answers("run:third")
    assert not torch.equal(second, third)
    (tmp_path / "elsewhere").mkdir()
    for folder in ("pushed", "again"):
        shutil.move(tmp_path / folder, tmp_path / "elsewhere" / folder)
    for folder in ("first", "second", "third"):
        shutil.rmtree(tmp_path / folder)
    assert torch.equal(answers("hf:./elsewhere/pushed"), second)
    assert torch.equal(answers("hf:./elsewhere/again"), third)
    about = json.loads((tmp_path / "elsewhere/again/config.json").read_text())
    assert about["limbeck"]["model"] == student["model"]
    assert about.get("architecture") == ("test_resnet" if "timm" in student["model"] else None)


def test_a_student_that_ends_in_its_teachers_classifier(call, tmp_path: Path) -> None:
    net = "py:limbeck.students.small:convnet"
    run(
        tmp_path / "simkd",
        {"model": net, "width": 4},
        teacher={"model": net, "width": 6, "train": {"epochs": 1}},
        objective={"simple_projector": {"weight": 1.0, "layers": "auto"}},
    )
    assert call("push", "simkd", "./pushed").code == 0
    assert torch.equal(answers("hf:./pushed"), answers("run:simkd"))
    told = json.loads((tmp_path / "simkd/result.json").read_text())
    said = call("evaluate", "hf:./pushed", "--data", "digits", "--json").json
    assert said["accuracy"] == told["student"]["accuracy"][0]
    for source in (f"run:{tmp_path / 'simkd'}", f"hf:{tmp_path / 'pushed'}"):
        run(tmp_path / "next", {"model": source})
        call("push", "next", "./other").refused("ends in its teacher's classifier")
        shutil.rmtree(tmp_path / "next")


def test_a_card_names_the_code_that_is_not_pushed(call, tmp_path: Path) -> None:
    (tmp_path / "push_nets.py").write_text(OWN)
    run(tmp_path / "own", {"model": "py:push_nets:net"}, beside=tmp_path)
    assert call("push", "own", "./pushed").code == 0
    text = (tmp_path / "pushed/README.md").read_text()
    assert 'model: "py:push_nets:net", weights: model.safetensors' in text
    assert "hf:" not in text
    call("evaluate", "hf:./pushed", "--data", "digits").refused("py:push_nets:net", "never run")
    # What the card says works.
    told = json.loads((tmp_path / "own/result.json").read_text())
    words = "evaluate", "py:push_nets:net", "--weights", tmp_path / "pushed/model.safetensors"
    said = call(*words, "--data", "digits", "--json").json
    assert said["accuracy"] == told["student"]["accuracy"][0]


def test_a_folder_can_be_named_by_its_prefix(call, tmp_path: Path) -> None:
    run(tmp_path / "mine", {"model": "timm:test_resnet"})
    assert call("push", "mine", f"folder:{tmp_path / 'pushed'}", "--json").json["folder"] == str(
        tmp_path / "pushed"
    )
    text = (tmp_path / "pushed/README.md").read_text()
    assert f'timm.create_model("local-dir:{tmp_path / "pushed"}", pretrained=True)' in text
    call("push", "mine", "folder:pushed").refused("TARGET", "folder")
