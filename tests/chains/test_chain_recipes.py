"""What `chain:` in a recipe makes of its links, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from limbeck import build
from limbeck.errors import InputError
from limbeck.recipe import ControlSpec, Recipe, TermSpec, links_of
from limbeck.recipe.links import merged

SMALL = "py:limbeck.students.small:convnet"


def loaded(settings: dict[str, Any], *overrides: str) -> Recipe:
    return Recipe.from_dict(settings, Path("base"), overrides)


def weights(terms: dict[str, TermSpec]) -> dict[str, Any]:
    return {name: term.weight for name, term in terms.items()}


class TestLinks:
    def test_each_ones_student_is_the_next_ones_teacher(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        one, two = links_of(loaded(settings), tmp_path)
        assert (one.folder, two.folder) == ("chain/1-assistant", "chain/2-student")
        assert (one.taught_by, two.taught_by) == (None, "assistant")
        assert one.recipe.teacher is not None
        assert two.recipe.teacher is not None
        assert one.recipe.teacher.train is not None
        assert two.recipe.teacher.model == f"run:{tmp_path}/chain/1-assistant"
        assert [link.recipe.student.options for link in (one, two)] == [{"width": 8}, {"width": 4}]
        assert one.recipe.control is False

    def test_the_control_is_the_direct_pair_with_the_objective_as_it_is(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        _, two = links_of(loaded(settings), tmp_path)
        control = two.recipe.control
        assert isinstance(control, ControlSpec)
        assert control.teacher is not None
        assert control.teacher.options == {"width": 12}
        assert control.teacher.weights == str(
            tmp_path / "chain/1-assistant/state/teacher/teacher.safetensors"
        )
        assert control.objective is not None
        assert weights(control.objective) == {"cross_entropy": 0.1, "kd": 0.9}
        assert control.train is None

    def test_settings_are_laid_over_as_overrides_are_and_models_taken_whole(
        self, settings: dict[str, Any]
    ) -> None:
        settings["chain"][0] |= {
            "train": {"epochs": 5, "optimizer": {"lr": 0.01}},
            "objective": {"kd": {"weight": 0.5}, "cross_entropy": None, "ls": {"method": "label_smoothing"}},
        }
        settings["student"] |= {"input": {"mean": 0.5, "std": 0.5}}
        one, two = (link.recipe for link in links_of(loaded(settings)))
        assert (one.train.epochs, two.train.epochs) == (5, 2)
        assert one.train.optimizer.lr == 0.01
        assert one.train.optimizer.options == {"momentum": 0.9}
        assert weights(one.objective) == {"kd": 0.5, "ls": 1.0}
        assert one.objective["kd"].options == {"temperature": 4}
        assert one.student.input is None
        assert two.student.input is not None

    def test_what_it_makes_it_makes_again_of_what_is_written(
        self, settings: dict[str, Any], tmp_path: Path
    ) -> None:
        settings["chain"][1]["student"] = {"model": SMALL, "width": 6}
        settings["control"] = {"train": {"clip": 1.0}}
        recipe = loaded(settings)
        again = loaded(recipe.dump())
        assert again.dump() == recipe.dump()
        assert recipe.student.options == {"width": 6}, "the student is that of the last link"
        made = [[link.recipe.dump() for link in links_of(r, tmp_path)] for r in (recipe, again)]
        assert made[0] == made[1]

    def test_what_a_link_says_of_training_holds_for_its_control(self, settings: dict[str, Any]) -> None:
        settings["control"] = {"train": {"clip": 1.0}}
        settings["chain"][1]["train"] = {"epochs": 4}
        control = links_of(loaded(settings))[1].recipe.control
        assert isinstance(control, ControlSpec)
        assert control.train is not None
        assert (control.train.epochs, control.train.clip) == (4, 1.0)

    def test_how_the_teacher_is_asked_holds_for_all_but_not_its_folder(
        self, settings: dict[str, Any]
    ) -> None:
        settings["teacher"] |= {"ahead": 2, "cache": {"views": 3, "folder": "answers"}}
        two = links_of(loaded(settings))[1].recipe
        assert two.teacher is not None
        assert two.teacher.cache is not None
        assert (two.teacher.ahead, two.teacher.cache.views, two.teacher.cache.folder) == (2, 3, None)

    def test_a_given_control_is_taken_as_it_is(self, settings: dict[str, Any]) -> None:
        assert links_of(loaded(settings, "control=false"))[1].recipe.control is False
        control = links_of(loaded(settings, "control={objective: {ce: 1}}"))[1].recipe.control
        assert isinstance(control, ControlSpec)
        assert control.teacher is None
        assert links_of(loaded(settings, "chain.0.control=true"))[0].recipe.has_control

    def test_overrides_reach_into_links(self, settings: dict[str, Any]) -> None:
        one, two = links_of(loaded(settings, "chain.0.student.width=9", "student.width=5"))
        assert one.recipe.student.options == {"width": 9}
        assert two.recipe.student.options == {"width": 5}


class TestGenerations:
    def test_without_a_teacher_the_first_is_plain_training_and_the_control(
        self, settings: dict[str, Any]
    ) -> None:
        settings |= {"teacher": None, "chain": {"generations": 3, "ensemble": True}}
        links = links_of(loaded(settings))
        assert [link.name for link in links] == ["generation-1", "generation-2", "generation-3"]
        assert [link.direct for link in links] == [True, False, False]
        assert [link.recipe.has_control for link in links] == [False] * 3
        assert weights(links[0].recipe.objective) == {"cross_entropy": 1.0}
        assert weights(links[1].recipe.objective) == {"cross_entropy": 0.1, "kd": 0.9}

    def test_with_a_teacher_the_first_is_the_direct_pair(self, settings: dict[str, Any]) -> None:
        settings["chain"] = {"generations": 2}
        one, two = links_of(loaded(settings))
        assert one.direct
        assert not two.recipe.has_control
        assert weights(one.recipe.objective) == {"cross_entropy": 0.1, "kd": 0.9}

    def test_another_training_of_the_last_is_not_the_direct_pair(self, settings: dict[str, Any]) -> None:
        settings["chain"] = [{"name": "a"}, {"name": "b", "train": {"epochs": 3}}]
        one, two = links_of(loaded(settings))
        assert not one.direct
        assert isinstance(two.recipe.control, ControlSpec)

    def test_an_assistant_without_a_teacher_leaves_the_plain_control(self, settings: dict[str, Any]) -> None:
        settings["teacher"] = None
        one, two = links_of(loaded(settings))
        assert not one.direct
        assert two.recipe.control is True
        assert two.recipe.has_control


REFUSED = [
    ("chain=[]", ["chain: has no links, and it takes two"]),
    ("chain=[{name: a}]", ["chain: has 1 link, and it takes two", "without chain"]),
    ("chain=3", ["chain: must be a list or a mapping, given 3"]),
    ("chain.1.name=assistant", ['chain.1.name: "assistant" is there twice']),
    ("chain.1.name=a/b", ["chain.1.name: must be 1 to 100 letters"]),
    ("chain.1.name=control", ['chain.1: name: "control" is taken']),
    ("chain.1={}", ["chain.1.name: is missing"]),
    ("chain.1.teacher={model: x}", ["chain.1.teacher: the teacher of this link is the link before"]),
    (
        "chain.1.studnt={model: a}",
        ['chain.1: unknown key "studnt". Did you mean "student"? Allowed: control'],
    ),
    ("chain.1.data={batch_size: 3}", ["chain.1: data is common to all links"]),
    ("chain.1.chain=[]", ["chain.1: chain is common to all links"]),
    ("chain.0.student={modl: a}", ["chain.0 (assistant): student.model: is missing"]),
    ("chain.1.train.epoch=3", ['chain.1 (student): train: unknown key "epoch". Did you mean "epochs"?']),
    ("chain.1.objective.kdd=1", ['chain.1 (student): objective.kdd: unknown method "kdd"', '"kd"']),
    ("chain.1.train.device=cpu", ["chain.1.train.device: is one for all links", '"auto"', 'given "cpu"']),
    ("student=", ['chain.1 ("student"): has no student', "or the recipe one for all links"]),
    ("chain={generations: 1}", ["chain.generations: must be at least 2, given 1"]),
    ("chain={generation: 3}", ['chain: unknown key "generation". Did you mean "generations"?']),
    ("chain={generations: 3, ensemble: 2}", ["chain.ensemble: must be true or false, given 2"]),
    ("variants={a: {objective: {ce: 1}}}", ["chain: cannot be compared with variants"]),
]


@pytest.mark.parametrize(("override", "parts"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_a_chain_cannot_do_is_refused(settings: dict[str, Any], override: str, parts: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        loaded(settings, override)
    message = str(caught.value)
    assert message.startswith("base: ")
    assert [part for part in parts if part not in message] == []


def test_the_first_link_without_teacher_and_labels_is_refused(settings: dict[str, Any]) -> None:
    settings |= {"teacher": None, "objective": {"kd": 1.0}}
    with pytest.raises(
        InputError, match=r"chain\.0 \(assistant\): has no teacher, so that it learns from labels"
    ):
        loaded(settings)


def test_merging_leaves_both_sides_alone() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "student": {"x": 1}}
    over = {"a": {"c": {"e": 3}}, "student": {"y": 2}, "f": 4}
    assert merged(base, over) == {"a": {"b": 1, "c": {"d": 2, "e": 3}}, "student": {"y": 2}, "f": 4}
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "student": {"x": 1}}


class TestControlsWithATeacher:
    """`control: {teacher: …}` in any recipe."""

    @pytest.fixture
    def plain(self, settings: dict[str, Any]) -> dict[str, Any]:
        settings.pop("chain")
        return settings | {"control": {"teacher": {"model": SMALL, "width": 6, "blank": True}}}

    def test_it_learns_from_the_whole_objective_unscaled(self, plain: dict[str, Any]) -> None:
        recipe = loaded(plain)
        control = build.control_objective(recipe, build.make_objective(recipe.objective, None))
        assert {name: term.weight for name, term in control.terms.items()} == {
            "cross_entropy": 0.1,
            "kd": 0.9,
        }
        assert loaded(recipe.dump()).dump() == recipe.dump()

    def test_it_may_compare_with_its_teacher_by_other_terms(self, plain: dict[str, Any]) -> None:
        plain["control"]["objective"] = {"ce": 0.5, "dist": 2.0}
        recipe = loaded(plain)
        control = build.control_objective(recipe, build.make_objective(recipe.objective, None))
        assert {n: term.weight for n, term in control.terms.items()} == {"cross_entropy": 0.5, "dist": 2.0}

    def test_its_first_stages_are_written_out_too(self, plain: dict[str, Any]) -> None:
        plain["objective"] = {"ce": 1.0, "ab": {"weight": 0.1, "layers": "auto"}}
        plain["train"] = {**plain["train"], "epochs": 4}
        recipe = loaded(plain).written_out()
        assert isinstance(recipe.control, ControlSpec)
        assert recipe.control.stages is not None
        assert recipe.control.stages == recipe.stages
        assert recipe.control.objective is not None
        assert weights(recipe.control.objective) == weights(recipe.objective)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                "control.teacher.train={epochs: 1}",
                r"control\.teacher\.train: a control's teacher is not trained",
            ),
            ("control.teacher.cache=3", r"control\.teacher\.cache\.views: .*that of teacher\.cache \(none\)"),
            ("control.teacher={model: cifar:resnet8}", r"control\.teacher: knows nothing yet"),
            ("control.teacher.head=teacher", r"control\.teacher\.head: only a student"),
            ("control={stages: []}", r"control\.stages: are for a control with a teacher"),
            ("control={objective: {kd: 1}}", r"control\.objective\.kd: this term compares with a teacher"),
        ],
    )
    def test_what_it_cannot_do_is_refused(self, plain: dict[str, Any], change: str, said: str) -> None:
        plain["control"]["teacher"].pop("blank")
        with pytest.raises(InputError, match=said):
            loaded(plain, change)
