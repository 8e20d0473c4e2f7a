"""`limbeck init` writes a recipe that is sound and says what its keys mean."""

import re
from pathlib import Path

import pytest
import yaml

from limbeck.errors import InputError
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe
from limbeck.template import template

TEACHERS = ["cifar:resnet56", "timm:resnet50.a1_in1k", "torchvision:resnet50", "py:a.b:c", "run:runs/x y"]
DATA = ["cifar10", "cifar100", "fashion_mnist", "digits", "folder:/x/Birds of #prey: all", "py:my.data:make"]


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("student", [None, "timm:mobilenetv3_small_100"])
def test_every_pair_gives_a_sound_recipe(teacher: str, data: str, student: str | None) -> None:
    text = template(teacher, data, student)
    recipe = Recipe.from_dict(read_yaml(text))
    assert recipe.teacher is not None
    assert (recipe.teacher.model, recipe.data.source) == (teacher, data)
    assert student is None or recipe.student.model == student
    assert recipe.control is True
    assert set(recipe.objective) == {"cross_entropy", "kd"}
    assert yaml.safe_load(text)["teacher"]["model"] == teacher
    assert text.count("#") > 10
    assert max(len(line) for line in text.split("\n")) <= 140


def test_a_teacher_is_given_weights_published_ones_or_training() -> None:
    given = Recipe.from_dict(read_yaml(template("cifar:resnet56", "cifar10", weights="a b: c.th"))).teacher
    published = Recipe.from_dict(read_yaml(template("timm:resnet50", "folder:x"))).teacher
    trained = Recipe.from_dict(read_yaml(template("cifar:resnet56", "cifar10"))).teacher
    brought = Recipe.from_dict(read_yaml(template("run:x", "cifar10"))).teacher
    assert given is not None
    assert published is not None
    assert trained is not None
    assert brought is not None
    assert (given.weights, given.train) == ("a b: c.th", None)
    assert published.pretrained
    assert published.train is not None
    assert published.train.epochs == 10
    assert trained.train is not None
    assert (trained.weights, trained.pretrained) == (None, False)
    assert (brought.weights, brought.train) == (None, None)


def test_a_folders_path_gets_its_prefix(tmp_path: Path) -> None:
    text = template("timm:resnet18", str(tmp_path))
    assert Recipe.from_dict(read_yaml(text)).data.source == f"folder:{tmp_path}"


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("cifar10", "cifar10-resnet56-resnet20"),
        ("folder:/data/Großer Wald/", "Gro-er-Wald-resnet56-resnet20"),
        ("folder:../..", "resnet56-resnet20"),
        ("folder:" + "x" * 500, "x" * 30 + "-resnet56-resnet20"),
    ],
)
def test_the_name_can_be_a_folders(data: str, name: str) -> None:
    recipe = Recipe.from_dict(read_yaml(template("cifar:resnet56", data, "cifar:resnet20")))
    assert recipe.name == name
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,100}", recipe.name)


def test_a_name_of_ones_own() -> None:
    assert Recipe.from_dict(read_yaml(template("cifar:resnet56", "digits", name="no"))).name == "no"
    with pytest.raises(InputError, match="name"):
        template("cifar:resnet56", "digits", name="a/b")


@pytest.mark.parametrize(
    ("teacher", "data", "student"),
    [
        ("", "digits", None),
        ("cifar:resnet56", "", None),
        ("cifar:resnet56", "digits", ""),
        ("a\0", "digits", None),
    ],
)
def test_words_that_no_recipe_can_hold(teacher: str, data: str, student: str | None) -> None:
    with pytest.raises(InputError):
        template(teacher, data, student)


def test_paths_that_no_system_has() -> None:
    with pytest.raises(InputError):
        template("cifar:resnet56", "a\0b")


@pytest.mark.parametrize("teacher", ['a"b\\c', "yes", "1.5", "# no comment", "a: b", "{}", "naïve", "'"])
def test_any_word_is_kept_as_it_is(teacher: str) -> None:
    recipe = Recipe.from_dict(read_yaml(template(teacher, "digits")))
    assert recipe.teacher is not None
    assert recipe.teacher.model == teacher
