"""The ready recipes load, say in their header what they did, and are ready to run where the data are."""

from pathlib import Path

import pytest

from limbeck.commands.check import examined
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_its_header_tells(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    header = "".join(line for line in path.read_text().splitlines(True) if line.startswith("#"))
    command = "compare" if recipe.variants else "distill"
    for word in (
        "Method",
        "https://",
        f"limbeck {command} recipes/{path.name}",
        "Result",
        "Time",
        "Hardware",
    ):
        assert word in header, word


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_ready_to_run(path: Path, data_root: Path) -> None:
    small = "small" in read_yaml(path)  # what is too large for here is tried in its small version
    recipe = Recipe.load(path, ["data.batch_size=8"], small)
    found = examined(recipe)
    if recipe.adds_task:  # the student begins as the teacher, with a larger classifier
        assert found["teacher"]["parameters"] < found["student"]["parameters"]
        assert found["terms"]["kd"]["first_value"] == pytest.approx(0, abs=1e-6)
        return
    several = found.get("teachers", {"": found["teacher"]}).values()
    teachers = [one["parameters"] for one in several if one is not None]
    if teachers:  # a chain may begin with plain training
        assert sum(teachers) > found["student"]["parameters"]
    assert all(term["first_value"] > 0 for term in found["terms"].values())
