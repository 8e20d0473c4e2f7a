"""What `limbeck push` writes can be read where nothing else of the run is."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import limbeck
from limbeck import models, weights
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


def test_a_card_names_all_teachers_or_the_scheme(call, tmp_path: Path) -> None:
    net = "py:limbeck.students.small:convnet"
    taught = {"cross_entropy": 0.5, "kd": 0.5}
    several = [{"model": net, "width": width, "train": {"epochs": 1}} for width in (5, 6)]
    run(tmp_path / "several", {"model": net, "width": 4}, teacher=several, objective=taught)
    assert call("push", "several", "./pushed").code == 0
    assert f"distilled from `{net}`, `{net}`" in (tmp_path / "pushed/README.md").read_text()
    run(tmp_path / "own", {"model": net, "width": 4}, scheme={"name": "own", "kind": "ema"}, objective=taught)
    assert call("push", "own", "./alone").code == 0
    assert "taught by the scheme own (`ema`)" in (tmp_path / "alone/README.md").read_text()


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


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Images of two classes, larger than the networks see them."""
    drawn = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 20)):
        for name in ("coarse", "fine"):
            folder = tmp_path / "photographs" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = drawn.integers(0, 256, (12, 16, 3) if name == "coarse" else (72, 96, 3), np.uint8)
                Image.fromarray(pixels).resize((96, 72)).save(folder / f"{number}.png")
    return tmp_path / "photographs"


VIEWS = {"size": 32, "resize": 45, "interpolation": "bicubic", "scale": [0.5, 1.0]}


@pytest.mark.parametrize("model", ["timm:test_resnet", "cifar:resnet8"])
def test_a_pushed_student_scores_elsewhere_what_its_card_says(
    call, tmp_path: Path, photographs: Path, model: str
) -> None:
    """On the very images, seen as they were, whatever their folder is called there."""
    data = {"source": f"folder:{photographs}", "batch_size": 4, "views": VIEWS}
    run(tmp_path / "mine", {"model": model}, data=data)
    told = json.loads((tmp_path / "mine/result.json").read_text())["student"]
    assert call("push", "mine", "./pushed").code == 0
    moved = photographs.rename(tmp_path / "moved")
    for name in ("hf:./pushed", "run:mine"):
        said = call("evaluate", name, "--data", moved, "--json").json
        assert (said["loss"], said["accuracy"]) == (told["loss"][0], told["accuracy"][0])
    other = call("evaluate", "hf:./pushed", "--data", moved, "--size", "32", "--json").json
    assert other["loss"] != told["loss"][0]  # which is another view, as asked for


def test_timm_sees_the_images_of_a_pushed_student_as_it_was_evaluated(
    call, tmp_path: Path, photographs: Path
) -> None:
    import timm
    from timm.data import create_transform, resolve_model_data_config

    from limbeck.build import load_data
    from limbeck.runfolder import RunFolder

    # In floating point, 32 / (32 / 93) is a hair below 93, and timm rounds down.
    data = {"source": f"folder:{photographs}", "batch_size": 4, "views": {**VIEWS, "resize": 93}}
    run(tmp_path / "mine", {"model": "timm:test_resnet"}, data=data)
    assert call("push", "mine", "./pushed").code == 0
    model = timm.create_model(f"local-dir:{tmp_path / 'pushed'}", pretrained=True).eval()
    seen = create_transform(**resolve_model_data_config(model), is_training=False)
    test = load_data(RunFolder(tmp_path / "mine").load_recipe()).test
    files = sorted(photographs.glob("val/*/*.png"))
    for file, number in zip(files[::7], range(0, len(test), 7), strict=True):
        ours = test.take(np.array([number]), None, 0).input
        mean, std = (torch.tensor(model.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        with Image.open(file) as image:
            torch.testing.assert_close(seen(image)[None], (ours - mean) / std)


def test_timm_is_told_the_size_that_small_images_have(call, tmp_path: Path) -> None:
    run(tmp_path / "mine", {"model": "timm:test_resnet"})
    assert call("push", "mine", "./pushed").code == 0
    about = json.loads((tmp_path / "pushed/config.json").read_text())["pretrained_cfg"]
    assert (about["input_size"], about["crop_pct"]) == ([1, 8, 8], 1.0)


def test_a_model_of_timms_is_evaluated_with_its_own_classifier(
    call, tmp_path: Path, photographs: Path
) -> None:
    """A fresh one, where the data have other classes, would be scored in silence."""
    run(tmp_path / "mine", {"model": "timm:test_resnet"})
    assert call("push", "mine", "./pushed").code == 0
    config = json.loads((tmp_path / "pushed/config.json").read_text())
    del config["limbeck"]  # any model of timm's, of ten classes
    (tmp_path / "pushed/config.json").write_text(json.dumps(config))
    said = call("evaluate", "hf:./pushed", "--data", "digits", "--json").json
    told = json.loads((tmp_path / "mine/result.json").read_text())["student"]
    assert said["loss"] == pytest.approx(told["loss"][0])
    refusal = "must answer [40, 2] (samples, classes); got [40, 10]"
    call("evaluate", "hf:./pushed", "--data", photographs).refused(refusal)
    exported = call("export", "hf:./pushed", "--format", "onnx", "--data", photographs)
    assert exported.code == 2
    assert refusal in exported.err
    # Another number of classes is there to be asked for, or comes with weights of one's own.
    asked = call("evaluate", "hf:./pushed", "--data", photographs, "--option", "num_classes=2", "--json")
    assert len(asked.json["per_class"]) == 2
    tuned = models.build(
        "timm:test_resnet", classes=2, channels=3, size=(8, 8), options={}, where="model"
    ).model
    weights.save(tuned, tmp_path / "tuned.safetensors")
    words = "--weights", "tuned.safetensors", "--data", photographs, "--json"
    said, same = (call("evaluate", name, *words).json for name in ("hf:./pushed", "timm:test_resnet"))
    assert len(said["per_class"]) == len(same["per_class"]) == 2
