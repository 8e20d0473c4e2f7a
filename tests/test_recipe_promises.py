"""Promises of recipes that hold between the parts: names in results, and when there is a control."""

from typing import Any

import pytest

from limbeck.build import make_objective
from limbeck.recipe import Recipe

MLP = {"model": "py:limbeck.students.small:mlp", "width": 4}


def recipe(**changed: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "one",
        "teacher": {**MLP, "train": {"epochs": 1}},
        "student": MLP,
        "data": {"source": "digits"},
        "objective": {"cross_entropy": 1},
        "train": {"epochs": 1},
    }
    return Recipe.from_dict({**base, **changed})


@pytest.mark.parametrize(
    ("terms", "names"),
    [
        ({"ce": 1, "dkd": 1, "kd": 1}, ["cross_entropy", "decoupled_kd", "kd"]),
        ({"ce": 1, "dkd": {"method": "kd"}}, ["cross_entropy", "dkd"]),
        ({"ce": 1, "dkd": 1, "decoupled_kd": 2}, ["cross_entropy", "dkd", "decoupled_kd"]),
    ],
)
def test_results_carry_the_methods_own_name_unless_it_is_taken(
    terms: dict[str, Any], names: list[str]
) -> None:
    objective = make_objective(recipe(objective=terms).objective, None)
    assert list(objective.terms) == names


def test_plain_training_is_not_repeated_as_its_own_control() -> None:
    assert recipe().has_control
    assert not recipe(control=False).has_control
    assert not recipe(train={"epochs": 0}).has_control
    assert not recipe(teacher=None).has_control
    assert recipe(teacher=None, control={"train": {"epochs": 2}}).has_control
