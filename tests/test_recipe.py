"""A recipe is typed and resolved; what it gives is what the interfaces promise."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import InputError
from limbeck.recipe import ControlSpec, RampSpec, Recipe

FULL = """\
name: cifar10-resnet56-resnet20
seeds: 1                     # a number n (seeds 0..n-1) or a list
teacher: {model: "cifar:resnet56", shortcut: pad, weights: resnet56-4bfd9763.th}
student: {model: "cifar:resnet20", shortcut: pad}
data:
  source: cifar10
  root: null
  batch_size: 128
  validation: 0
  views: {crop: 4, flip: true}
objective:
  cross_entropy: {weight: 0.1}
  kd: {weight: 0.9, temperature: 4}
scheme: offline
train:
  epochs: 100
  optimizer: {name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 5.0e-4}
  schedule: {name: cosine}
control: true
export: {formats: [onnx, int8]}
"""

SMALL: dict[str, Any] = {
    "name": "small",
    "teacher": {"model": "cifar:resnet32", "weights": "t.safetensors"},
    "student": {"model": "cifar:resnet20"},
    "data": {"source": "digits"},
    "objective": {"cross_entropy": 1, "kd": {"temperature": 2}},
    "train": {"epochs": 3},
}


def make(*overrides: str, **changes: Any) -> Recipe:
    return Recipe.from_dict({**copy.deepcopy(SMALL), **changes}, overrides=overrides)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    file = tmp_path / "full.yaml"
    file.write_text(FULL)
    return file


def test_the_recipe_of_the_interface_page_is_read(full: Path) -> None:
    recipe = Recipe.load(full)
    assert recipe.name == "cifar10-resnet56-resnet20"
    assert recipe.path == full
    assert recipe.beside == full.parent
    assert recipe.seed_list == (0,)
    assert recipe.teacher is not None
    assert (recipe.teacher.model, recipe.teacher.weights) == ("cifar:resnet56", "resnet56-4bfd9763.th")
    assert recipe.teacher.options == recipe.student.options == {"shortcut": "pad"}
    assert recipe.data.views == {"crop": 4, "flip": True}
    assert {name: term.weight for name, term in recipe.objective.items()} == {"cross_entropy": 0.1, "kd": 0.9}
    assert recipe.objective["kd"].options == {"temperature": 4}
    assert recipe.scheme.name == "offline"
    assert recipe.train.optimizer.lr == 0.1
    assert recipe.train.optimizer.options == {"momentum": 0.9, "weight_decay": 5e-4}
    assert recipe.export.formats == ("onnx", "int8")


def test_what_is_not_said_has_the_documented_default() -> None:
    recipe = make()
    assert (recipe.data.batch_size, recipe.data.eval_batch_size, recipe.data.validation) == (128, 500, 0)
    assert recipe.data.views is recipe.data.root is recipe.data.labels is recipe.data.size is None
    assert recipe.train.optimizer.name == "sgd"
    assert recipe.train.optimizer.options == {"momentum": 0.9, "weight_decay": 5e-4}
    assert (recipe.train.schedule.name, recipe.train.schedule.final) == ("cosine", 0)
    assert (recipe.train.accumulate, recipe.train.precision, recipe.train.device) == (1, "fp32", "auto")
    assert recipe.control is True
    assert recipe.metric == "accuracy"
    assert recipe.objective["kd"].weight == 1


@pytest.mark.parametrize(
    ("seeds", "listed"),
    [(1, (0,)), (3, (0, 1, 2)), ([7], (7,)), ((5, 2), (5, 2)), ([0, 2**31 - 1], (0, 2**31 - 1))],
)
def test_seeds_are_a_number_or_a_list(seeds: Any, listed: tuple[int, ...]) -> None:
    assert make(seeds=seeds).seed_list == listed


def test_a_recipe_survives_dump_and_yaml(full: Path, tmp_path: Path) -> None:
    recipes = [
        Recipe.load(full),
        make(
            seeds=[3, 1],
            teacher={
                "model": "timm:resnet18",
                "pretrained": True,
                "classes": ["cat", 3],
                "input": {"mean": 0.5, "std": [0.25], "channels": 1},
                "train": {"optimizer": {"name": "adamw", "lr": 1e-5}, "clip": 1},
                "objective": {"ce": {"weight": {"start": 0, "end": 1, "epochs": 2}, "label_smoothing": 0.1}},
                "drop_rate": None,
                "options": {"weights": "inner", "depth": [1, {"a": "1e3"}]},
            },
            objective={"ce": 0.5, "soft": {"method": "kd", "weight": 2}, "hint": {"layers": {"layer1": "0"}}},
            control={"train": {"epochs": 9}, "objective": {"cross_entropy": 1}},
            train={"epochs": 0, "schedule": {"name": "step", "milestones": [1, 2.5]}},
            export={"formats": []},
        ),
        make(teacher=None, objective={"cross_entropy": 1}, control=False),
    ]
    for recipe in recipes:
        dumped = recipe.dump()
        assert json.loads(json.dumps(dumped)) == dumped
        assert Recipe.from_dict(dumped).dump() == dumped
        again = tmp_path / "recipe.yaml"
        again.write_text(recipe.to_yaml(), encoding="utf-8")
        assert Recipe.load(again).dump() == dumped


def test_options_keep_nulls_and_names_that_the_recipe_uses_itself() -> None:
    student = {"model": "py:a:b", "pool": None, "options": {"weights": 3, "train": {"x": 1}}}
    recipe = make(student=student)
    assert recipe.student.options == {"pool": None, "weights": 3, "train": {"x": 1}}
    assert recipe.student.weights is None
    assert recipe.dump()["student"] == {**student, "pretrained": False}


def test_the_given_mapping_is_not_changed() -> None:
    data = copy.deepcopy(SMALL)
    Recipe.from_dict(data, overrides=["objective.kd.weight=3", "train.epochs=1"])
    assert data == SMALL


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make().name = "other"  # type: ignore[misc]


class TestOverrides:
    def test_overrides_reach_everything(self, full: Path) -> None:
        recipe = Recipe.load(
            full, ["train.epochs=2", "seeds=[4]", "objective.kd.temperature=2.5", "teacher.weights=w.th"]
        )
        assert (recipe.train.epochs, recipe.seed_list) == (2, (4,))
        assert recipe.objective["kd"].options == {"temperature": 2.5}
        assert recipe.objective["kd"].weight == 0.9
        assert recipe.teacher is not None
        assert recipe.teacher.weights == "w.th"

    def test_overrides_reach_inside_short_forms_even_those_set_by_an_override(self) -> None:
        recipe = make(
            "objective.cross_entropy.label_smoothing=0.1", "objective.dkd=3", "objective.dkd.beta=4"
        )
        assert recipe.objective["cross_entropy"].weight == 1
        assert recipe.objective["cross_entropy"].options == {"label_smoothing": 0.1}
        assert (recipe.objective["dkd"].weight, recipe.objective["dkd"].options) == (3, {"beta": 4})
        assert make("scheme.name=offline", scheme="offline").scheme.name == "offline"

    def test_a_term_set_to_null_is_left_out(self) -> None:
        assert list(make("objective.kd=null", "teacher=null").objective) == ["cross_entropy"]

    def test_one_override_may_be_given_as_a_word(self) -> None:
        assert Recipe.from_dict(SMALL, overrides="train.epochs=7").train.epochs == 7


class TestInheritedTraining:
    def test_teacher_and_control_take_what_they_do_not_give(self) -> None:
        train = {
            "epochs": 3,
            "threads": 2,
            "clip": 1.0,
            "optimizer": {"name": "sgd", "lr": 0.3, "momentum": 0.8},
        }
        recipe = make(
            train=train,
            teacher={
                "model": "cifar:resnet32",
                "train": {"epochs": 9, "optimizer": {"name": "adamw", "lr": 1e-3}},
            },
            control={"train": {"clip": None}},
        )
        assert recipe.teacher is not None
        assert recipe.teacher.train is not None
        assert (recipe.teacher.train.epochs, recipe.teacher.train.threads, recipe.teacher.train.clip) == (
            9,
            2,
            1,
        )
        assert recipe.teacher.train.optimizer.options == {}
        assert isinstance(recipe.control, ControlSpec)
        assert recipe.control.train is not None
        assert recipe.control.train == recipe.train.model_copy(update={"clip": None})

    def test_an_override_of_train_reaches_them(self) -> None:
        recipe = make("train.epochs=0", teacher={"model": "cifar:resnet32", "train": {}})
        assert recipe.teacher is not None
        assert recipe.teacher.train == recipe.train


class TestTerms:
    def test_weights_are_numbers_or_ramps(self) -> None:
        terms = make(objective={"ce": 0.5, "kd": {"weight": {"start": 0, "end": 2, "epochs": 5}}}).objective
        assert terms["ce"].weight == 0.5
        assert terms["kd"].weight == RampSpec(start=0, end=2, epochs=5)

    def test_layers_are_auto_or_pairs_and_numbers_are_names(self) -> None:
        recipe = make("objective.hint.layers={layer1: 2, 0: features.3}")
        assert recipe.objective["hint"].layers == {"layer1": "2", "0": "features.3"}
        assert make("objective.hint.layers=auto").objective["hint"].layers == "auto"

    def test_a_third_partys_method_beside_the_recipe_is_found(self, tmp_path: Path) -> None:
        (tmp_path / "my_methods_of_a_test.py").write_text(
            "from limbeck.methods import Method\n"
            "class Zero(Method):\n"
            "    def __init__(self, scale: float = 1.0) -> None:\n"
            "        super().__init__()\n"
            "    def forward(self, student, teacher, batch):\n"
            "        return student.logits.sum() * 0\n"
        )
        file = tmp_path / "r.yaml"
        data = {**SMALL, "objective": {"ce": 1, "zero": {"method": "my_methods_of_a_test:Zero", "scale": 2}}}
        file.write_text(json.dumps(data))
        assert Recipe.load(file).objective["zero"].options == {"scale": 2}
        assert str(tmp_path) not in sys.path


def test_reading_recipes_does_not_load_torch() -> None:
    """The command line prints schemas and YAML errors without the seconds that torch takes."""
    code = (
        "import sys, limbeck.recipe as r\n"
        "r.schema()\n"
        "try: r.Recipe.from_dict({'name': 3})\n"
        "except ValueError: pass\n"
        "else: raise AssertionError\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("short", "key", "full"),
    [
        ("train.ema=true", "ema", {"decay": 0.9999, "schedule": "exponential", "beta": 15.0}),
        ("train.ema=0.99", "ema", {"decay": 0.99, "schedule": "exponential", "beta": 15.0}),
        ("train.ema=false", "ema", None),
        (
            "train.checkpoint=best",
            "checkpoint",
            {"take": "best", "best": 10, "watch": "accuracy", "mode": None},
        ),
    ],
)
def test_short_forms_of_the_training_are_written_out(short: str, key: str, full: object) -> None:
    recipe = make(short, control={"train": {"epochs": 1}})
    assert recipe.dump()["train"][key] == full
    assert recipe.dump()["control"]["train"][key] == full  # it takes what it does not give itself
    assert Recipe.from_dict(recipe.dump()).dump() == recipe.dump()


def test_an_override_reaches_inside_a_short_form() -> None:
    recipe = make("train.ema=true", "train.ema.decay=0.5", metrics=["top5", "f1"])
    assert recipe.train.ema is not None
    assert recipe.train.ema.decay == 0.5
    assert make("metrics.f1.average=micro", metrics=["top5", "f1"]).metrics["f1"].wanted == {
        "average": "micro"
    }


SHRINKING = {"train.epochs": 1, "objective.kd": {"weight": 2}, "data.samples": 100}


def test_the_small_version_is_laid_over_the_recipe_on_request() -> None:
    data = {**copy.deepcopy(SMALL), "small": SHRINKING}
    whole = Recipe.from_dict(data)
    assert whole.dump() == make().dump()  # no trace of it: a run that is not small has none
    small = Recipe.from_dict(data, small=True, overrides=["data.samples=50"])
    assert small.name == "small-small"
    assert small.train.epochs == 1
    assert small.data.samples == 50  # an override comes after
    assert small.objective["kd"].options == {}
    assert "small" not in small.dump()


def test_a_recipe_without_a_small_version_says_so() -> None:
    with pytest.raises(InputError, match="--small: this recipe has no small version"):
        Recipe.from_dict(copy.deepcopy(SMALL), small=True)


def test_a_mistake_in_the_small_version_names_its_place() -> None:
    for settings, message in (
        ({"train.epochs.x": 1}, "small.train.epochs.x"),
        ({"train.epoch": 1}, "train: unknown key"),
    ):
        with pytest.raises(InputError, match=message):
            Recipe.from_dict({**copy.deepcopy(SMALL), "small": settings}, small=True)


def test_a_blank_teacher_is_taken_when_it_is_said() -> None:
    blank = {"model": "cifar:resnet32"}
    with pytest.raises(InputError, match="blank: true"):
        make(teacher=blank)
    assert make(teacher={**blank, "blank": True}).teacher is not None
