"""A student that ends in its teacher's classifier: built, trained, shipped and built again (SimKD)."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck import Frozen, Objective, Recipe, Tapped, Term, functional, models, weights
from limbeck.assembly import setup
from limbeck.composing import compose, notes_of, recompose, student_head, teacher_head
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.methods._heads import classifies
from limbeck.pairing import pair
from limbeck.students.reused_head import HeadNotes, ReusedHead
from limbeck.students.small import convnet

IMAGES = Batch(torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
TERMS: dict[str, Term | float] = {
    "simkd": Term(layers={"stage2": "stage2"}),
    "hint": Term(layers={"stage1": "stage1"}),
}


def built(width: int = 4) -> tuple[ReusedHead, Objective, nn.Module]:
    torch.manual_seed(0)
    teacher, student = convnet(width=8).eval(), convnet(width=width)
    objective = Objective(TERMS)
    frozen = Frozen(Tapped(teacher, objective.teacher_taps))
    whole = compose(Tapped(student), objective, frozen, IMAGES, 0)
    assert isinstance(whole, ReusedHead)
    return whole, objective, teacher


def test_the_classifier_is_the_teachers_and_is_not_trained() -> None:
    whole, objective, teacher = built()
    assert torch.equal(whole.head.weight, teacher.linear.weight)
    assert not any(p.requires_grad for p in whole.head.parameters())
    assert not any("linear" in name for name, _ in whole.named_parameters()), "the student's own is left out"
    assert objective.student_taps == ["projector", "trunk.model.stage1"]
    answer = Tapped(whole, objective.student_taps)(IMAGES.input)
    assert answer.features[0].shape == (4, 16, 4, 4), "of the teacher's width"
    assert answer.features[1].shape == (4, 4, 8, 8)
    torch.testing.assert_close(answer.logits, whole.head(answer.features[0].mean((2, 3))))


def test_it_is_built_again_from_its_file(tmp_path: Path) -> None:
    whole, _, _ = built()
    whole.eval()
    file = tmp_path / "student.safetensors"
    weights.save(whole, file, notes_of(whole))
    again = recompose(convnet(width=4), weights.metadata(file)).eval()
    weights.load(again, file, where="student")
    assert torch.equal(again(IMAGES.input), whole(IMAGES.input))
    plain = convnet(width=4)
    assert recompose(plain, {}) is plain


def test_notes_that_do_not_fit_say_why() -> None:
    plain = convnet(width=4)
    notes = built()[0].notes
    for text in ('{"tap": 1}', "{", "[]", replace(notes, inputs="4").dump()):  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"notes on a composite student are broken \(.+\)"):
            recompose(plain, {"composite": text})
    with pytest.raises(InputError, match=r'not the one that was inside: it has no linear layer "fc"'):
        recompose(plain, {"composite": replace(notes, replaced="fc").dump()})
    with pytest.raises(InputError, match=r'not the one that was inside: student: no layer "stage9"'):
        recompose(convnet(width=4), {"composite": replace(notes, tap="stage9").dump()})


def test_a_teacher_with_something_before_its_classifier_hands_out_the_vector() -> None:
    torch.manual_seed(0)
    teacher, student = convnet(width=8), convnet(width=4)
    normed = nn.Sequential(*list(teacher.children())[:-1], nn.LayerNorm(16), nn.Linear(16, 10)).eval()
    found = pair(Tapped(student), Tapped(normed, who="teacher"), IMAGES, "classified")
    assert found == {"linear:in": "4:in"}
    objective = Objective({"simkd": Term(layers=found)})
    frozen = Frozen(Tapped(normed, objective.teacher_taps))
    whole = compose(Tapped(student), objective, frozen, IMAGES, 0)
    assert isinstance(whole, ReusedHead)
    assert whole.notes == HeadNotes("linear:in", "linear", 8, 16, 10, maps=False, bias=True, factor=2)
    assert whole.train()(IMAGES.input).shape == (4, 10)
    wrong = Objective({"simkd": Term(layers={"stage2": "1"})})
    with pytest.raises(InputError, match=r'"4" does not take 1, averaged .*\{linear:in: 4:in\}\.$'):
        compose(Tapped(convnet(width=4)), wrong, Frozen(Tapped(normed, wrong.teacher_taps)), IMAGES, 0)
    plain = Tapped(convnet(width=4))
    assert pair(plain, Tapped(teacher, who="teacher"), IMAGES, "classified") == {"stage2": "stage2"}


def test_only_some_of_the_teachers_classes() -> None:
    torch.manual_seed(0)
    teacher = convnet(num_classes=20, width=8).eval()
    objective = Objective({"simkd": TERMS["simkd"]})
    frozen = Frozen(Tapped(teacher, objective.teacher_taps), [3, 1, 4])
    whole = compose(Tapped(convnet(num_classes=3, width=4)), objective, frozen, IMAGES, 0)
    assert whole(IMAGES.input).shape == (4, 3)
    assert torch.equal(whole.head.weight, teacher.linear.weight[[3, 1, 4]])  # type: ignore[union-attr]


def whole_of(
    student: nn.Module, teacher: nn.Module, layers: dict[str, str], **others: Term
) -> tuple[ReusedHead, Objective, Frozen]:
    objective = Objective({"simkd": Term(layers=layers), **others})
    frozen = Frozen(Tapped(teacher.eval(), objective.teacher_taps, who="teacher"))
    whole = compose(Tapped(student, who="student"), objective, frozen, IMAGES, 0)
    assert isinstance(whole, ReusedHead)
    return whole, objective, frozen


class Gated(nn.Module):
    """Its classifier is not the linear layer that was registered last: that is a gate, or is not used."""

    def __init__(self, gates: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 10)
        self.body = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
        self.other = nn.Linear(16, 16 if gates else 10)
        self.gates = gates

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.body(x).mean((2, 3))
        logits: Tensor = self.fc(pooled * self.other(pooled).sigmoid() if self.gates else pooled)
        return logits


def test_the_classifier_is_what_answers_the_logits() -> None:
    torch.manual_seed(0)
    student, teacher = Gated(), Gated(gates=False)
    whole, _, _ = whole_of(student, teacher, {"fc:in": "fc:in"})
    assert whole.notes.replaced == "fc"
    assert isinstance(student.fc, nn.Identity)
    assert isinstance(student.other, nn.Linear)
    assert torch.equal(whole.head.weight, teacher.fc.weight)
    again = recompose(Gated(), notes_of(whole))
    again.load_state_dict(whole.state_dict())
    assert torch.equal(again.eval()(IMAGES.input), whole.eval()(IMAGES.input))
    with pytest.raises(InputError, match=r'"fc" does not take body, averaged .*\{linear:in: fc:in\}'):
        whole_of(convnet(width=4), Gated(), {"stage2": "body"})


def test_a_classifier_that_goes_by_two_names_is_taken_out_under_both() -> None:
    student = Gated()
    student.same = student.fc
    whole_of(student, convnet(width=8), {"fc:in": "linear:in"})
    assert isinstance(student.fc, nn.Identity)
    assert isinstance(student.same, nn.Identity)


class TwoHeads(nn.Module):
    """Averages the answers of two classifiers, as the distilled DeiT does."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(64, 10), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x.flatten(1)) + self.two(x.flatten(1))) / 2


def test_networks_without_one_classifier_are_refused() -> None:
    with pytest.raises(InputError, match=r"student is to end .* its logits are not what one linear"):
        whole_of(TwoHeads(), convnet(width=8), {"one:in": "linear:in"})
    with pytest.raises(InputError, match="teacher's logits are not what one linear layer answers"):
        whole_of(convnet(width=4), TwoHeads(), {"linear:in": "two:in"})


@pytest.mark.parametrize(
    ("layers", "others", "tap"),
    [
        ({"linear": "linear:in"}, {}, "linear"),
        ({"linear:in": "linear:in"}, {"hint": Term(layers={"linear": "linear"})}, "linear"),
        ({"linear:in": "linear:in"}, {"hint": Term(layers={"": "linear"})}, ""),
    ],
)
def test_what_is_behind_the_classifier_that_is_taken_out_cannot_be_tapped(
    layers: dict[str, str], others: dict[str, Term], tap: str
) -> None:
    student = convnet(width=4)
    with pytest.raises(InputError, match=f'"linear" is taken out.*compare at "{tap}".*"linear:in"'):
        whole_of(student, convnet(width=8), layers, **others)
    assert isinstance(student.linear, nn.Linear), "a student that is refused is as it was"
    assert not student.linear._forward_hooks


def test_taps_of_the_network_itself_stand_inside_the_composite() -> None:
    objective = Objective(
        {"simkd": Term(layers={"linear:in": "linear:in"}), "hint": Term(layers={":in": ":in"})}
    )
    assert objective.student_taps == ["projector", "trunk.model:in"]
    whole, _, _ = whole_of(
        convnet(width=4), convnet(width=8), {"linear:in": "linear:in"}, hint=Term(layers={":in:copy": ":in"})
    )
    answer = Tapped(whole, ["trunk.model:in:copy"])(IMAGES.input)
    assert torch.equal(answer.features[0], IMAGES.input)


def test_a_student_that_reads_its_classifier_does_not_run_without_it() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Linear(64, 12), nn.Linear(12, 10)
            self.scale = nn.Parameter(torch.ones(10))

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.body(x.flatten(1)))
            assert (logits * self.scale).shape[1] == 10
            return logits

    with pytest.raises(InputError, match=r'"fc" is taken out.* and without it the student does not run'):
        whole_of(Reads(), convnet(width=8), {"fc:in": "linear:in"})


def test_a_teacher_that_was_compiled_for_an_earlier_seed_is_not_compiled_again() -> None:
    torch.manual_seed(0)
    teacher = convnet(width=8)
    objective = Objective({"simkd": TERMS["simkd"]})
    frozen = Frozen(Tapped(teacher.eval(), objective.teacher_taps))
    compiled: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(1)
        return graph.forward

    frozen.network.compile(backend=backend)
    whole = compose(Tapped(convnet(width=4)), objective, frozen, IMAGES, 0)
    assert isinstance(whole, ReusedHead)
    assert torch.equal(whole.head.weight, teacher.linear.weight)
    assert not compiled


def test_the_heads_of_a_probe_are_those_that_answer() -> None:
    torch.manual_seed(0)
    student, teacher = Gated(), Gated(gates=False)
    whole, frozen = Tapped(student, who="student"), Frozen(Tapped(teacher, who="teacher"), [3, 1, 4])
    assert student_head(whole, IMAGES) is student.fc
    head = teacher_head(frozen, IMAGES)
    assert head is not None
    assert torch.equal(head.weight, teacher.fc.weight[[3, 1, 4]])
    assert classifies(head, teacher.body(IMAGES.input), frozen(IMAGES).logits)
    assert teacher_head(Frozen(Tapped(teacher)), IMAGES) is teacher.fc
    assert student_head(Tapped(TwoHeads()), IMAGES) is None


def test_class_attention_goes_by_the_classes_that_are_asked_for() -> None:
    """By the classifier that answers, of the rows that the data have."""
    torch.manual_seed(0)
    student, teacher = convnet(num_classes=3, width=4).eval(), Gated(gates=False)
    objective = Objective({"class_attention": Term(layers={"stage2": "body"})})
    ours = Tapped(student, objective.student_taps, who="student")
    theirs = Frozen(Tapped(teacher, objective.teacher_taps, who="teacher"), [3, 1, 4])
    setup(ours, objective, theirs, IMAGES, 4, 3, 0)
    told, heard = ours(IMAGES.input), theirs(IMAGES)
    expected = functional.class_attention(
        *told.features, *heard.features, student.linear.weight, teacher.fc.weight[[3, 1, 4]]
    )
    assert torch.equal(objective(told, heard, IMAGES)["loss"], expected)
    gated = Frozen(Tapped(Gated(), objective.teacher_taps, who="teacher"), [3, 1, 4])
    with pytest.raises(InputError, match=r"objective: class_attention needs a teacher .* other logits"):
        setup(ours, objective, gated, IMAGES, 4, 3, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_classifier_is_told_by_what_it_answers(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, feature = nn.Linear(16, 10).to(dtype), torch.randn(4, 16, 3, 3).to(dtype)
    logits = head(feature.mean((2, 3)))
    assert classifies(head, feature, logits)
    assert classifies(head, feature.mean((2, 3)), logits)
    assert not classifies(head, feature.relu(), logits)
    assert not classifies(head, feature, 1.1 * logits)
    assert not classifies(head, feature, logits[:, :9])
    assert not classifies(head, feature[:, :8], logits)
    small = nn.Linear(16, 10, bias=False).to(dtype)
    with torch.no_grad():
        small.weight.mul_(1e-4)
    assert not classifies(small, feature.relu(), small(feature.mean((2, 3)))), "however small logits are"


def test_two_terms_cannot_both_give_the_classifier() -> None:
    with pytest.raises(InputError, match="gives the student the teacher's classifier already"):
        Objective({"simkd": TERMS["simkd"], "again": Term("simkd", layers={"stage2": "stage2"})})


def test_from_python_the_composite_comes_back() -> None:
    torch.manual_seed(0)
    teacher, student = convnet(width=8), convnet(width=4)
    batches = [(torch.rand(8, 1, 8, 8), torch.arange(8) % 10)] * 2
    control = copy.deepcopy(student)
    found = limbeck.distill(
        teacher, student, batches, batches, epochs=1, progress=False,
        objective={"cross_entropy": 1.0, "simple_projector": Term(layers="auto")},
    )  # fmt: skip
    assert isinstance(found.student, ReusedHead)
    assert found.student.trunk.model is student
    assert torch.equal(found.student.head.weight, teacher.linear.weight)
    assert found.control is not None
    assert control.linear.out_features == 10


RECIPE: dict[str, Any] = {
    "name": "composite",
    "teacher": {
        "model": "py:limbeck.students.small:convnet",
        "width": 8,
        "train": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.05}},
    },
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "samples": 128, "batch_size": 32},
    "objective": {"cross_entropy": 0.5, "simkd": {"layers": "auto"}},
    "train": {"epochs": 1, "threads": 1, "optimizer": {"name": "sgd", "lr": 0.05}},
    "export": {"formats": ["onnx"]},
}


@pytest.mark.slow
def test_a_run_ships_it(tmp_path: Path) -> None:
    recipe = Recipe.from_dict(RECIPE)
    assert recipe.student.head is None
    assert recipe.written_out().student.head == "teacher"
    result = limbeck.run(recipe, tmp_path / "run")
    assert result["exports"]["onnx"]["agreement"] == 1.0
    assert result["control"]["parameters"] < result["student"]["parameters"]
    assert "head: teacher" in (tmp_path / "run" / "recipe.yaml").read_text()
    again = models.build(
        f"run:{tmp_path / 'run'}", classes=10, channels=1, size=(8, 8), options={},
        where="student", beside=None, pretrained=False,
    ).model  # fmt: skip
    assert isinstance(again, ReusedHead)
    assert sum(p.numel() for p in again.parameters()) == result["student"]["parameters"]


def test_the_key_in_a_recipe_goes_with_the_method() -> None:
    given = {**RECIPE, "objective": {"cross_entropy": 1.0, "kd": 1.0}}
    assert Recipe.from_dict(given).student.head is None
    with pytest.raises(InputError, match=r"student\.head: no term of the objective gives"):
        Recipe.from_dict({**given, "student": {**RECIPE["student"], "head": "teacher"}})
    with pytest.raises(InputError, match=r"teacher\.head: only a student"):
        Recipe.from_dict({**RECIPE, "teacher": {**RECIPE["teacher"], "head": "teacher"}})
