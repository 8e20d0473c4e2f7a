"""Several teachers in a recipe: read, named, spread over the terms, and refused where they cannot work."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.build import load_data, make_objective
from limbeck.errors import InputError
from limbeck.pairing import settle_layers
from limbeck.recipe import Recipe, schema

NET = "py:limbeck.students.small:convnet"
TEACHERS = [{"name": "good", "model": NET, "width": 8}, {"name": "bad", "model": NET, "width": 6, "depth": 3}]


def recipe(path: Path | None = None, **changes: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "several",
        "teacher": TEACHERS,
        "student": {"model": NET, "width": 4},
        "data": {"source": "digits", "batch_size": 64, "samples": 64},
        "objective": {"cross_entropy": 0.1, "kd": 0.9},
        "train": {"epochs": 2},
    }
    return Recipe.from_dict({**base, **changes}, path)


def test_teachers_are_named_and_averaged_unless_said() -> None:
    made = recipe(teacher=[{"model": NET}, {"model": NET, "name": "other"}, {"model": NET}])
    assert made.teacher_names == ["teacher-1", "other", "teacher-3"]
    assert made.weighting is not None
    assert made.weighting.name == "average"
    assert Recipe.from_dict(made.dump()) == made


def test_a_list_of_one_is_the_one_teacher() -> None:
    made = recipe(teacher=[{"model": NET, "name": "only", "width": 8}])
    assert made.sole_teacher is not None
    assert made.sole_teacher.name is None
    assert made == recipe(teacher={"model": NET, "width": 8})


@pytest.mark.parametrize(
    ("given", "name", "options"),
    [
        ("confidence", "confidence", {}),
        ([2, 1], "average", {"weights": [2, 1]}),
        ({"name": "gradient", "tolerance": 0.7}, "gradient", {"tolerance": 0.7}),
    ],
)
def test_a_weighting_has_a_short_form(given: Any, name: str, options: dict[str, Any]) -> None:
    made = recipe(weighting=given).weighting
    assert made is not None
    assert (made.name, made.options) == (name, options)


def test_each_member_is_a_recipe_with_one_teacher_and_seeds_of_its_own() -> None:
    train = {"epochs": 3}
    made = recipe(
        teacher=[{**TEACHERS[0], "train": train}, {**TEACHERS[1], "train": train, "label_noise": 0.5}]
    )
    good, bad = made.members().values()
    assert good.sole_teacher is not None
    assert bad.sole_teacher is not None
    assert good.sole_teacher.train is not None
    assert good.sole_teacher.train.epochs == 3
    assert bad.sole_teacher.label_noise == 0.5
    assert (good.seed_list, bad.seed_list) == ((0,), (1,))
    asked = recipe(teacher=[{**TEACHERS[0], "ahead": 3}, TEACHERS[1]])
    assert [one.ahead for one in (asked, *asked.members().values())] == [3, 3, 3]


def test_overrides_reach_inside_the_list() -> None:
    made = Recipe.from_dict(recipe().dump(), None, ["teacher.1.width=5", "weighting=entropy"])
    assert made.teachers[1].options["width"] == 5
    assert made.weighting is not None
    assert made.weighting.name == "entropy"


def test_a_term_of_layers_is_there_once_for_each_teacher_at_its_share_of_the_weight() -> None:
    written = recipe(
        objective={
            "cross_entropy": 0.1,
            "kd": 0.9,
            "fitnet": {"weight": 4, "layers": {"stage2": "stage2"}},
            "at": {"weight": {"start": 0, "end": 8, "epochs": 2}, "layers": "auto"},
            "mine": {"method": "hint", "weight": 3, "layers": {"stage1": "bad/stage1"}},
        }
    ).written_out()
    terms = written.objective
    assert list(terms) == [
        "cross_entropy",
        "kd",
        "hint.good",
        "hint.bad",
        "attention_transfer.good",
        "attention_transfer.bad",
        "mine",
    ]
    assert [terms[n].weight for n in ("hint.good", "hint.bad", "mine")] == [2, 2, 3]
    assert terms["hint.bad"].layers == {"stage2": "bad/stage2"}
    ramp = terms["attention_transfer.good"].weight
    assert not isinstance(ramp, int | float)
    assert ramp.most == 4
    assert written.written_out() == written  # the weights are divided once

    settled = settle_layers(written, load_data(written))
    assert settled.objective["attention_transfer.good"].layers == {
        "stage1": "good/stage1",
        "stage2": "good/stage2",
    }
    assert settled.objective["attention_transfer.bad"].layers == {
        "stage1": "bad/stage1",
        "stage2": "bad/stage3",
    }
    taps = make_objective(settled.objective, None).teacher_taps
    assert taps == ["good/stage2", "bad/stage2", "good/stage1", "bad/stage1", "bad/stage3"]


def test_stages_are_spread_too_and_layers_keep_their_weight() -> None:
    written = recipe(
        train={"epochs": 4},
        objective={
            "cross_entropy": 1.0,
            "factor_transfer": {"weight": 10, "layers": {"stage2": "stage2"}},
            "activation_boundary": {"weight": 6, "layers": {"stage1": "stage1"}},
        },
    ).written_out()
    assert written.stages is not None
    found = {s.name: {n: t.weight for n, t in s.objective.items()} for s in written.stages}
    assert found == {
        "factor_transfer": {"factor_transfer.good": 1, "factor_transfer.bad": 1},
        "activation_boundary": {"activation_boundary.good": 3, "activation_boundary.bad": 3},
    }
    assert written.objective["factor_transfer.bad"].weight == 5
    make_objective(written.objective, None, written.stages)


TWO = {"teacher": TEACHERS}
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"teacher": TEACHERS[0] | {"name": None}, "weighting": "average"}, ["weighting:", "there is one"]),
    ({"teacher": None, "weighting": "average", "objective": {"cross_entropy": 1.0}}, ["there is none"]),
    ({"teacher": TEACHERS[0]}, ["teacher.name: is for one of several"]),
    ({"teacher": [TEACHERS[0], TEACHERS[0]]}, ['teacher.1.name: "good" is there twice']),
    ({"teacher": [TEACHERS[0], {**TEACHERS[1], "name": "GOOD"}]}, ['teacher.1.name: "GOOD" is there twice']),
    ({"teacher": [TEACHERS[0], {**TEACHERS[1], "name": ".."}]}, ["teacher.1.name", "no name for a folder"]),
    ({"teacher": [TEACHERS[0], {**TEACHERS[1], "name": "a/b"}]}, ["teacher.1.name", "letters, digits"]),
    ({"teacher": [TEACHERS[0], {**TEACHERS[1], "cache": 4}]}, ["teacher.1.cache: the answers of several"]),
    (
        {"teacher": [{**TEACHERS[0], "ahead": 2}, {**TEACHERS[1], "ahead": 3}]},
        ["ahead is one for all", "2, 3"],
    ),
    ({"teacher": [TEACHERS[0], {**TEACHERS[1], "label_noise": 0.5}]}, ["label_noise is for", "give train"]),
    (
        {"teacher": [TEACHERS[0], {**TEACHERS[1], "label_noise": 1.5, "train": {}}]},
        ["teacher.1.label_noise: must be at most 1, given 1.5"],
    ),
    ({"teacher": [TEACHERS[0], {"model": "cifar:resnet20"}]}, ["teacher.1: knows nothing yet"]),
    ({"teacher": [TEACHERS[0], {**TEACHERS[1], "head": "teacher"}]}, ["teacher.1.head: only a student"]),
    ({**TWO, "student": {"model": NET, "name": "x"}}, ["student.name: only a teacher"]),
    ({**TWO, "weighting": "confidense"}, ['weighting: unknown weighting "confidense"', "Did you mean"]),
    ({**TWO, "weighting": [1, 2, 3]}, ["one for each of 2 teachers, got 3"]),
    ({**TWO, "weighting": 3}, ["weighting: must be a mapping, given 3"]),
    (
        {**TWO, "objective": {"hint": {"layers": {"stage1": "god/stage1"}}, "cross_entropy": 1}},
        ['objective.hint.layers: "god/stage1"', 'unknown teacher "god"', 'Did you mean "good"'],
    ),
    (
        {**TWO, "objective": {"at": {"layers": "god/auto"}, "cross_entropy": 1}},
        ['objective.at.layers: unknown teacher "god"'],
    ),
    (
        {
            **TWO,
            "objective": {
                "at": {"layers": {"stage1": "good/stage1", "stage2": "stage2"}},
                "cross_entropy": 1,
            },
        },
        ["objective.at.layers: some of the teachers' layers say whose"],
    ),
    ({**TWO, "objective": {"simkd": {"layers": "auto"}, "cross_entropy": 1}}, ["simkd: gives the student"]),
    (
        {**TWO, "objective": {"weight.good": {"method": "kd"}, "cross_entropy": 1}},
        ["objective.weight.good: a term must not be called so"],
    ),
    ({**TWO, "variants": {"teacher.good": {"objective": {"kd": 1}}}}, ['"teacher.good" is taken']),
    (
        {
            "teacher": TEACHERS[0] | {"name": None},
            "objective": {"at": {"layers": "good/auto"}, "cross_entropy": 1},
        },
        ['objective.at.layers: "good/auto" names one of several teachers'],
    ),
    (
        {**TWO, "chain": [{"name": "a"}, {"name": "b"}]},
        ["teacher: the chain begins with one teacher"],
    ),
    (
        {**TWO, "scheme": {"name": "lifelong", "old": [0, 1]}},
        ["teacher: the scheme lifelong begins with one"],
    ),
    ({**TWO, "scheme": {"name": "online"}}, ["peers teach each other, so there is no other teacher"]),
    (
        {
            **TWO,
            "control": {"teacher": {"model": NET}},
            "objective": {"cross_entropy": 1, "hint": {"layers": {"stage1": "good/stage1"}}},
        },
        ['control.objective.hint.layers: "good/stage1" names one of several', 'give "stage1"'],
    ),
    (
        {"teacher": [TEACHERS[0], {**TEACHERS[1], "train": {"device": "cuda"}}]},
        ["teacher.1.train.device: is one for all trainings"],
    ),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=[parts[0] for _, parts in REFUSED])
def test_what_cannot_work_is_told_with_its_place(changes: dict[str, Any], parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        recipe(Path("base"), **changes)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_control_with_one_teacher_keeps_its_terms_whole() -> None:
    made = recipe(
        control={"teacher": {"model": NET}},
        objective={"cross_entropy": 0.5, "hint": {"weight": 4, "layers": {"stage1": "stage1"}}},
    ).written_out()
    assert list(made.objective) == ["cross_entropy", "hint.good", "hint.bad"]
    assert not isinstance(made.control, bool)
    assert made.control.objective is not None
    assert made.control.objective["hint"].weight == 4
    assert made.control.objective["hint"].layers == {"stage1": "stage1"}


def test_the_schema_knows_several_teachers() -> None:
    properties = schema()["properties"]
    kinds = [branch.get("type") for branch in _branches(properties["teacher"])]
    assert "array" in kinds
    assert "weighting" in properties
    assert {"label_noise", "name"} <= set(schema()["$defs"]["Network"]["properties"])


def _branches(field: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [b for key in ("anyOf", "oneOf") for b in field.get(key, [])]
    return [field, *(leaf for branch in inner for leaf in _branches(branch))]
