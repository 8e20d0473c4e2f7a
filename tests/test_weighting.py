"""Weights that change over the epochs."""

import math

import pytest

from limbeck import Ramp, Steps
from limbeck.build import make_objective
from limbeck.errors import InputError
from limbeck.recipe import Recipe

BASE = {
    "name": "w",
    "teacher": {"model": "py:limbeck.students.small:mlp", "train": {"epochs": 1}},
    "student": {"model": "py:limbeck.students.small:mlp"},
    "data": {"source": "digits", "batch_size": 8},
    "train": {"epochs": 1},
}


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("sigmoid", math.exp(-1.25))])
def test_a_ramp_ends_where_it_should_in_every_shape(shape, half: float) -> None:
    ramp = Ramp(1.0, 3.0, 10, shape)
    assert ramp.at(5) == pytest.approx(1 + 2 * half)
    assert ramp.at(10) == ramp.at(99) == 3.0
    assert ramp.at(0) == pytest.approx(1 + (2 * math.exp(-5) if shape == "sigmoid" else 0))


def test_a_cosine_ramp_is_slow_at_its_ends() -> None:
    ramp = Ramp(0.0, 1.0, 10, "cosine")
    assert ramp.at(1) < 0.1
    assert ramp.at(9) > 0.9


def test_steps_hold_from_their_epoch_on() -> None:
    steps = Steps({150: 0.1, 0: 1.0, 180: 0.0})
    assert [steps.at(e) for e in (0, 149.99, 150, 179, 180, 500)] == [1.0, 1.0, 0.1, 0.1, 0.0, 0.0]
    assert steps.end == 0.0
    assert Steps({5: 2.0}).at(0) == 2.0
    with pytest.raises(ValueError, match="at least one weight"):
        Steps({})


def test_a_recipe_takes_both_and_writes_them_out() -> None:
    terms = {
        "cross_entropy": 1,
        "kd": {"weight": {"steps": {0: 1, 2: 0.5}}},
        "dkd": {"weight": {"start": 0, "end": 2, "epochs": 4, "shape": "cosine"}},
    }
    recipe = Recipe.from_dict(BASE | {"objective": terms})
    again = Recipe.from_dict(recipe.dump())
    assert again == recipe
    built = make_objective(again.objective, None)
    assert built.terms["kd"].weight == Steps({0: 1.0, 2: 0.5})
    assert built.terms["decoupled_kd"].weight == Ramp(0, 2, 4, "cosine")
    built.before_step(3)
    assert built.ramped.tolist() == pytest.approx([0.5, 2 * (1 - math.cos(math.pi * 0.75)) / 2])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ({"steps": {}}, "at least 1"),
        ({"steps": {"soon": 1}}, "both numbers"),
        ({"steps": {0: -1}}, "kd.weight.steps"),
        ({"steps": {0: 1}, "end": 2}, "end"),
        ({"start": 0, "end": 1, "epochs": 2, "shape": "wavy"}, "linear"),
    ],
)
def test_a_weight_that_cannot_be(weight, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_dict(BASE | {"objective": {"cross_entropy": 1, "kd": {"weight": weight}}})
