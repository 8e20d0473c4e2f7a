"""From a recipe to its objects: the right networks, classes, terms and starts, or a message that helps."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck import assembly, build, weights
from limbeck.data import Data
from limbeck.data.samples import TensorSamples
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED
from limbeck.objective import Objective, Ramp, Term
from limbeck.recipe import Recipe
from limbeck.running import run
from limbeck.taps import Tapped
from limbeck.teachers import Frozen

SMALL = "py:limbeck.students.small:mlp"


def recipe(path: Path | None = None, **changes: Any) -> Recipe:
    base: dict[str, Any] = {
        "name": "test",
        "train": {"epochs": 1},
        "data": {"source": "digits", "batch_size": 32},
        "teacher": {"model": SMALL, "width": 16},
        "student": {"model": SMALL, "width": 4},
        "objective": {"cross_entropy": 0.1, "kd": 0.9},
    }
    return Recipe.from_dict({**base, **changes}, path)


def made(
    classes: tuple[str, ...] = ("cat", "dog", "frog"),
    identifiers: tuple[str, ...] = (),
    targets: Tensor | None = None,
) -> Data:
    generator = torch.Generator().manual_seed(0)
    samples = TensorSamples(
        images=torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8, generator=generator),
        targets=torch.arange(12) % len(classes) if targets is None else targets,
        classes=classes,
        identifiers=identifiers,
    )
    return Data(samples, samples, None, samples.classes, samples.identifiers)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_data_follow_the_recipe() -> None:
    data = build.load_data(recipe(data={"source": "digits", "batch_size": 32, "labels": 100, "samples": 500}))
    assert len(data.train) == 500
    assert build.labelled(data) == 100
    assert build.labelled(made(targets=torch.tensor([0, 1, UNLABELLED] * 4))) == 8


class TestStudents:
    def test_a_seed_decides_the_start_whatever_was_drawn_before(self) -> None:
        starts = []
        for seed in (0, 0, 1):
            torch.rand(3)
            starts.append(state(build.make_student(recipe(), made(), seed).model))
        assert same(starts[0], starts[1])
        assert not same(starts[0], starts[2])

    def test_methods_with_layers_do_not_change_the_start(self) -> None:
        """So student and control start from the same weights."""
        data = made()
        student = build.make_student(recipe(), data, 0)
        before = state(student.model)
        names = [n for n, m in student.model.named_modules() if isinstance(m, nn.Linear)]
        objective = Objective({"hint": Term(layers={names[0]: names[0]})})
        teacher = build.make_teacher(recipe(), data, objective.teacher_taps)
        global_state = torch.default_generator.get_state()
        scheme = assembly.make_scheme(student, objective, teacher, data, 0)
        assert torch.equal(torch.default_generator.get_state(), global_state)
        assert same(state(student.model), before)
        assert any("regressors" in name for name, _ in scheme.named_parameters())
        assert scheme.student.model is student.model

    def test_pixels_are_normalised_as_the_recipe_says(self) -> None:
        given = {"model": SMALL, "width": 4, "input": {"mean": [0.5], "std": [0.25]}}
        prepared = build.make_student(recipe(student=given), made(), 0)
        x = torch.rand(2, 1, 8, 8)
        torch.testing.assert_close(prepared.adapter(x), (x - 0.5) / 0.25)
        assert prepared.spec.mean == (0.5,)

    def test_a_misspelt_key_finds_the_entrys_own_keys_too(self) -> None:
        for key, meant in (("wieghts", "weights"), ("widht", "width")):
            with pytest.raises(InputError, match=rf'student: unknown key or option "{key}".*"{meant}"'):
                build.make_student(recipe(student={"model": SMALL, key: 3}), made(), 0)

    def test_weights_beside_the_recipe_are_loaded(self, tmp_path: Path) -> None:
        data = made()
        source = build.make_student(recipe(), data, 5)
        weights.save(source.model, tmp_path / "a.safetensors")
        given = {"model": SMALL, "width": 4, "weights": "a.safetensors"}
        found = build.make_student(recipe(tmp_path / "recipe.yaml", student=given), data, 0)
        assert same(state(found.model), state(source.model))


class Wide(nn.Module):
    """Answers the number of each class."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return torch.arange(self.width, dtype=torch.float32).expand(len(x), -1)


class TestTheTeachersClasses:
    def ask(self, chosen: Any, width: int, data: Data) -> list[float]:
        entry = {"model": SMALL} if chosen is None else {"model": SMALL, "classes": chosen}
        asked = recipe(teacher=entry)
        prepared = build.make_student(recipe(), data, 0)
        wide = build.Prepared(Wide(width), prepared.adapter, prepared.spec, "wide")
        teacher = build.frozen(asked, data, wide, [])
        logits: list[float] = teacher(build.probe_batch(data)).logits[0].tolist()
        return logits

    def test_as_many_as_the_data_have_are_taken_as_they_are(self) -> None:
        assert self.ask(None, 3, made()) == [0, 1, 2]
        assert self.ask("auto", 3, made()) == [0, 1, 2]

    def test_picked_by_number(self) -> None:
        assert self.ask([7, 0, 2], 9, made()) == [7, 0, 2]
        assert self.ask([2, 1, 0], 3, made()) == [2, 1, 0]

    def test_picked_by_the_names_of_imagenet(self) -> None:
        data = made(("goldfish", "n01440764", "Tabby"))
        assert self.ask("auto", 1000, data) == [1, 0, 281]
        data = made(("a", "b"), ("n01443537", "n01440764"))
        assert self.ask("auto", 1000, data) == [1, 0]
        assert self.ask(["tench", 5], 1000, data) == [0, 5]

    @pytest.mark.parametrize(
        ("chosen", "width", "message"),
        [
            (None, 9, r"teacher\.classes: the teacher answers 9 classes and the data have 3"),
            ([0, 1, 9], 9, r"teacher\.classes: index 9 is out of range; the teacher has 9 classes"),
            ([0, 1], 9, r"teacher\.classes: 2 are named and the data have 3: cat, dog, frog"),
            # ImageNet has a bird and a machine of this name, a dog and a garment, the two pandas.
            ([0, 1, "Crane"], 1000, r'teacher\.classes: "Crane" is the name of 2 .*134 \(.*517 \('),
            ([0, 1, "cardigan"], 1000, r"264 \(Cardigan, Cardigan Welsh corgi\), 474 \(cardigan\)"),
            ("auto", 9, r"teacher\.classes: the names of a teacher's 9 classes are not known"),
            ("auto", 1000, r'teacher\.classes: the teacher has no class "cat" among its 1000 names'),
        ],
    )
    def test_what_does_not_fit_is_refused(self, chosen: Any, width: int, message: str) -> None:
        with pytest.raises(InputError, match=message):
            self.ask(chosen, width, made())

    def test_an_answer_of_another_shape_is_refused(self) -> None:
        data = made()
        prepared = build.make_student(recipe(), data, 0)
        maps = build.Prepared(nn.Identity(), prepared.adapter, prepared.spec, "maps")
        with pytest.raises(
            InputError, match=r"teacher: must answer logits \[samples, classes\]; it answers \[8"
        ):
            build.frozen(recipe(), data, maps, [])


class TestObjectives:
    def test_terms_become_what_the_recipe_says(self) -> None:
        asked = recipe(
            objective={
                "cross_entropy": {"weight": 0.5, "label_smoothing": 0.1},
                "soft": {"method": "kd", "weight": {"start": 0, "end": 2, "epochs": 4}, "temperature": 3},
                "off": {"method": "kd", "weight": 0},
            }
        )
        objective = build.make_objective(asked.objective, None)
        assert list(objective.terms) == ["cross_entropy", "soft"]
        assert objective.terms["soft"].weight == Ramp(0, 2, 4)
        assert objective.method("soft").temperature == 3

    def test_auto_layers_must_be_written_out_before(self) -> None:
        asked = recipe(objective={"ce": 1, "hint": {"layers": "auto"}})
        with pytest.raises(InputError, match=r"objective\.hint\.layers: auto has to be written out first"):
            build.make_objective(asked.objective, None)

    def test_the_control_keeps_the_label_terms_at_total_weight_one(self) -> None:
        asked = recipe()
        control = build.control_objective(asked, build.make_objective(asked.objective, None))
        assert {name: term.weight for name, term in control.terms.items()} == {"cross_entropy": 1.0}

    def test_the_control_may_have_terms_of_its_own(self) -> None:
        asked = recipe(control={"objective": {"ce": {"weight": 2, "label_smoothing": 0.1}}})
        control = build.control_objective(asked, build.make_objective(asked.objective, None))
        assert {name: term.weight for name, term in control.terms.items()} == {"cross_entropy": 2.0}

    @pytest.mark.parametrize(
        "changes",
        [{"objective": {"kd": 1}}, {"objective": {"ce": 0, "kd": 1}}, {"control": {"objective": {"kd": 1}}}],
    )
    def test_a_control_without_labels_is_refused_with_the_recipe(self, changes: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=r"control"):
            recipe(**changes)


def test_a_compiled_teacher_is_not_compiled_for_the_probe() -> None:
    """It is shared by several seeds: compiled anew for the probe's size, later seeds would run other code."""
    sizes = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        sizes.append([len(i) for i in inputs if isinstance(i, Tensor) and i.dim() == 4])
        return graph.forward

    data = made()
    asked = recipe()
    objective = build.make_objective(asked.objective, None)
    teacher = build.make_teacher(asked, data, objective.teacher_taps)
    teacher.network.compile(backend=backend)
    teacher(data.train.take(np.arange(12), None, 0))
    for seed in (0, 1):
        assembly.make_scheme(build.make_student(asked, data, seed), objective, teacher, data, seed)
    assert sizes == [[12]]


class TestSetup:
    def run(self, student: nn.Module, objective: Objective, teacher: nn.Module | None = None) -> Tapped:
        tapped = Tapped(student, objective.student_taps, who="student")
        master = None if teacher is None else Frozen(Tapped(teacher, objective.teacher_taps))
        assembly.setup(tapped, objective, master, build.probe_batch(made()), 12, 3, seed=0)
        return tapped

    def test_the_probe_leaves_the_networks_as_they_were(self) -> None:
        student = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3))
        before = state(student)
        self.run(student, Objective({"ce": 1.0}))
        assert same(state(student), before)
        assert student.training
        assert all(m.training for m in student.modules())

    @pytest.mark.parametrize(
        ("student", "message"),
        [
            (
                nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
                r"must answer logits \[samples, 3\]; it answers \[8, 4\]",
            ),
            (nn.Identity(), r"must answer logits \[samples, 3\]; it answers \[8, 1, 8, 8\]"),
        ],
    )
    def test_logits_that_do_not_fit_the_data_are_refused(self, student: nn.Module, message: str) -> None:
        with pytest.raises(InputError, match=f"student: {message}"):
            self.run(student, Objective({"ce": 1.0}))

    def test_what_a_method_refuses_is_the_users_error(self) -> None:
        flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        objective = Objective({"hint": Term(layers={"": "0"})})
        teacher = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3))
        with pytest.raises(InputError, match="objective: hint needs two maps"):
            self.run(flat, objective, teacher)


def test_what_a_method_refuses_in_its_first_step_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    network = "py:limbeck.students.small:convnet"
    given = Recipe.from_dict(
        {
            "name": "rehearsed",
            "teacher": {"model": network, "depth": 3, "train": {"epochs": 1}},
            "student": {"model": network, "depth": 4, "width": 4},
            "data": {"source": "digits", "samples": 64, "batch_size": 32},
            "objective": {"cross_entropy": 1.0, "cwd": {"layers": {"stage4": "stage3"}}},
            "train": {"epochs": 1, "threads": 1},
        }
    )
    with pytest.raises(InputError, match="channel_wise"):
        run(given, tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.yaml").exists(), "the folder is free for the corrected recipe"
