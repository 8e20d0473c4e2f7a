"""A student learns a new task beside its teacher's old one, from samples of the new one alone."""

import copy
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import weights
from limbeck.commands.card import card
from limbeck.commands.check import check
from limbeck.commands.examining import examine
from limbeck.data.sources import load
from limbeck.data.tasks import Tasks, split
from limbeck.errors import InputError
from limbeck.evaluation.tasks import TaskFigures, accuracies
from limbeck.inheriting import inherit
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.objective import Objective, Term
from limbeck.recipe import Recipe
from limbeck.report.curves import learning
from limbeck.report.record import read
from limbeck.report.tasks import sentence, table
from limbeck.running import run
from limbeck.schemes.lifelong import Heads, Lifelong
from limbeck.staging import Stage, Staged
from limbeck.students.small import convnet
from limbeck.taps import Tapped
from limbeck.teachers import Frozen, Teacher

OLD = (1, 3, 4)
NEW = (0, 2)


def tasks(old: tuple[int, ...] = OLD, new: tuple[int, ...] = NEW) -> Tasks:
    nothing: Any = None
    return Tasks(old, new, nothing)


class Table(nn.Module):
    """Answers a table of logits, whatever it is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits * 1.0


class Saying(Teacher):
    """Says always the same."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        return Knowledge(self.logits)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lifelong(
    student: Tensor, teacher: Tensor | None, terms: dict[str, Term | float]
) -> tuple[Lifelong, Table]:
    heads, model, objective = Heads(OLD, NEW), Table(student), Objective(terms)
    objective.looking = heads
    return Lifelong(Tapped(model), objective, heads, None if teacher is None else Saying(teacher)), model


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    shares = [math.exp(value - top) for value in row]
    return [value / math.fsum(shares) for value in shares]


def slow(
    student: Tensor, teacher: Tensor, shares: Tensor, temperature: float, weight: float, counted: int
) -> tuple[float, Tensor]:
    """Equations of the paper, sample by sample: the loss, and its gradient by the student's logits [B, C].

    Args:
        shares: of the labels among all classes, [B, C]; a row of zeros is not known.
        counted: number of labels.
    """
    loss, gradient = 0.0, torch.zeros_like(student)
    for n, (said, heard, label) in enumerate(
        zip(student.tolist(), teacher.tolist(), shares.tolist(), strict=True)
    ):
        new = softmax([said[c] for c in NEW])
        mass = sum(label[c] for c in NEW)
        for place, c in enumerate(NEW):
            loss -= label[c] * math.log(new[place]) / counted
            gradient[n, c] += (mass * new[place] - label[c]) / counted
        ours = softmax([said[c] / temperature for c in OLD])
        theirs = softmax([value / temperature for value in heard])
        for place, c in enumerate(OLD):
            loss += (
                weight * temperature**2 / len(student) * theirs[place] * math.log(theirs[place] / ours[place])
            )
            gradient[n, c] += weight * temperature / len(student) * (ours[place] - theirs[place])
    return loss, gradient


@pytest.mark.parametrize("kind", ["labels", "some labels", "mixed"])
def test_loss_and_gradient_are_those_of_the_slow_reference(kind: str) -> None:
    student, teacher = drawn(6, 5), drawn(6, len(OLD), seed=1)
    target = torch.tensor([0, 2, 2, 0, 0, 2])
    if kind == "some labels":
        target[[1, 4]] = UNLABELLED
    shares = torch.zeros(6, 5, dtype=torch.float64)
    known = target >= 0
    shares[known] = nn.functional.one_hot(target[known], 5).double()
    if kind == "mixed":
        shares = 0.7 * shares + 0.3 * shares.flip(0)
    scheme, model = lifelong(
        student, teacher, {"cross_entropy": 1.0, "kd": Term(weight=1.5, temperature=2.0)}
    )
    batch = Batch(torch.zeros(6, 1), shares if kind == "mixed" else target)
    losses = scheme(batch, scheme.teach(batch))
    losses["loss"].backward()
    loss, gradient = slow(student, teacher, shares, 2.0, 1.5, int(known.sum()))
    assert losses["loss"].item() == pytest.approx(loss, rel=1e-12)
    assert model.logits.grad is not None
    torch.testing.assert_close(model.logits.grad, gradient, rtol=1e-10, atol=1e-12)


def test_the_control_moves_no_logit_of_the_old_task() -> None:
    student = drawn(6, 5)
    scheme, model = lifelong(student, None, {"cross_entropy": 1.0})
    batch = Batch(torch.zeros(6, 1), torch.tensor([0, 2, 2, 0, 0, 2]))
    scheme(batch, scheme.teach(batch))["loss"].backward()
    assert model.logits.grad is not None
    assert float(model.logits.grad[:, OLD].abs().sum()) == 0
    assert float(model.logits.grad[:, NEW].abs().min()) > 0


def test_compiled_in_one_graph_the_losses_and_gradients_are_the_same() -> None:
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        terms: dict[str, Term | float] = {"cross_entropy": 1.0, "kd": Term(temperature=2.0)}
        scheme, model = lifelong(drawn(6, 5), drawn(6, 3, seed=1), terms)
        if compiled:
            scheme.compile(backend="aot_eager", fullgraph=True)
        batch = Batch(torch.zeros(6, 1), torch.tensor([0, 2, 2, 0, UNLABELLED, 2]))
        losses = scheme(batch, scheme.teach(batch))
        losses["loss"].backward()
        assert model.logits.grad is not None
        found.append([*losses.values(), model.logits.grad])
    torch.testing.assert_close(found[1], found[0])


def test_methods_are_set_up_for_their_own_classes() -> None:
    objective = Objective({"cross_entropy": Term(class_weights="balanced")})
    heads = Heads(OLD, NEW)
    objective.looking = heads
    from limbeck.methods.base import Probe

    said, asked = Knowledge(drawn(4, 5)), Batch(torch.zeros(4, 1), torch.tensor([0, 2, 2, 2]))
    objective.setup(Probe(said, None, asked, classes=5, targets=asked.target))
    found = objective.method("cross_entropy").weights
    assert found.tolist() == pytest.approx([4 / (2 * 1), 4 / (2 * 3)])


def test_stages_look_as_the_objective_does() -> None:
    data = split(load("digits"), [0, 1, 2, 3, 4])
    objective = Staged(
        {"cross_entropy": 1.0, "kd": 1.0}, [Stage("first", 1, {"cross_entropy": 1.0, "logits_mse": 1.0})]
    )
    teacher, student = network(5, 1), network(10, 2)
    from limbeck.build import Prepared
    from limbeck.inheriting import make_lifelong

    built = Prepared(student, adapter(), InputSpec(), "made")
    scheme = make_lifelong(built, objective, frozen(teacher), data, 0)
    batch = data.train.take(torch.arange(8).numpy(), None, 0)
    for stage in (0, 1):
        scheme.enter(stage)
        losses = scheme(batch, scheme.teach(batch))
        assert all(value.isfinite() for value in losses.values())
        assert (stage == 0) == ("logits_mse" in losses)


# The start


def adapter(**spec: Any) -> InputAdapter:
    return InputAdapter(InputSpec(**spec), channels=1)


def network(classes: int, seed: int, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return convnet(num_classes=classes, width=4, **options)


def frozen(model: nn.Module, classes: list[int] | None = None) -> Frozen:
    return Frozen(Tapped(model, (), adapter(), who="teacher"), classes)


def images(count: int = 4) -> Batch:
    return Batch(torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(3)))


def test_the_student_says_of_old_classes_what_its_teacher_says() -> None:
    teacher, student = network(3, 1), network(5, 2)
    before = copy.deepcopy(student.state_dict())
    inherit(Tapped(student, (), adapter()), frozen(teacher), OLD, images())
    said, heard = student.eval()(images().input), teacher.eval()(images().input)
    torch.testing.assert_close(said[:, OLD], heard, rtol=0, atol=1e-6)
    fresh = student.state_dict()["linear.weight"][list(NEW)]
    assert torch.equal(fresh, before["linear.weight"][list(NEW)])
    assert torch.equal(student.state_dict()["stage1.0.weight"], teacher.state_dict()["stage1.0.weight"])


def test_of_a_teacher_of_more_classes_the_named_rows_are_taken() -> None:
    teacher, student = network(7, 1), network(5, 2)
    inherit(Tapped(student, (), adapter()), frozen(teacher, [6, 0, 2]), OLD, images())
    said, heard = student.eval()(images().input), teacher.eval()(images().input)
    torch.testing.assert_close(said[:, OLD], heard[:, [6, 0, 2]], rtol=0, atol=1e-6)


class Conv(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.last = nn.Conv2d(1, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x).mean((2, 3))


@pytest.mark.parametrize(
    ("student", "spec", "told"),
    [
        (lambda: network(5, 2, depth=3), {}, r"7 of its tensors are not the teacher's: stage3\.0\.weight"),
        (
            lambda: convnet(num_classes=5, width=6),
            {},
            r"stage1\.0\.weight \(\[6, 1, 3, 3\], teacher \[4, 1, 3, 3\]\)",
        ),
        (lambda: network(5, 2, batch_norm=False), {}, r"its tensors are not the teacher's"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), {}, "classifiers stand in different places"),
        (lambda: Conv(5), {}, "student: its logits are not what one linear layer answers"),
        (lambda: network(5, 2), {"mean": (0.5,)}, r"student\.input: the student begins as its teacher"),
    ],
)
def test_a_student_that_cannot_begin_as_its_teacher_is_refused(
    student: Callable[[], nn.Module], spec: dict[str, Any], told: str
) -> None:
    model = student()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(InputError, match=told):
        inherit(Tapped(model, (), adapter(**spec), who="student"), frozen(network(3, 1)), OLD, images())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# Figures


def test_figures_are_those_of_counting_by_hand() -> None:
    logits, labels = drawn(200, 5, seed=4), torch.arange(200) % 5
    alone = joint = count = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label in OLD:
            count += 1
            alone += max(OLD, key=lambda c: row[c]) == label
            joint += max(range(5), key=lambda c: row[c]) == label
    assert accuracies(logits, labels, OLD) == (alone / count, joint / count)
    found = TaskFigures({}, tasks())(logits, labels)
    assert (found["old_alone"], found["old_joint"]) == (alone / count, joint / count)
    assert (found["new_alone"], found["new_joint"]) == accuracies(logits, labels, NEW)


def test_a_task_without_samples_has_no_figure() -> None:
    found = TaskFigures({}, tasks())(drawn(2, 5), torch.tensor([0, 2]))
    assert math.isnan(found["old_alone"])
    assert math.isnan(found["old_joint"])
    with pytest.raises(InputError, match=r"metrics\.old_alone: lifelong learning has this figure already"):
        TaskFigures({"old_alone": {}}, tasks())


# Whole runs

RECIPE: dict[str, Any] = {
    "name": "lifelong",
    "seeds": 2,
    "teacher": {"model": "py:limbeck.students.small:convnet", "width": 8, "train": {"epochs": 3}},
    "student": {"model": "py:limbeck.students.small:convnet", "width": 8},
    "data": {"source": "digits", "batch_size": 64, "validation": 0.1, "views": {"crop": 0, "flip": False}},
    "scheme": {"name": "lifelong", "old": ["0", "1", 2, 3, 4]},
    "objective": {"cross_entropy": 0.5, "kd": {"weight": 1.0, "temperature": 2}},
    "metrics": ["f1"],
    "track": ["csv"],
    "train": {
        "epochs": 2,
        "optimizer": {"name": "adamw", "lr": 0.01},
        "device": "cpu",
        "threads": 1,
        "workers": 0,
    },
    "export": {"formats": ["onnx"]},
}


def recipe(**changed: Any) -> Recipe:
    return Recipe.from_dict({**RECIPE, **changed})


@dataclass
class Seen:
    """What the trainings of a run looked at."""

    starts: list[dict[str, Tensor]] = field(default_factory=list)
    teachers: list[tuple[nn.Module, dict[str, Tensor]]] = field(default_factory=list)
    batches: list[list[Batch]] = field(default_factory=list)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Seen]:
    """A finished run, its result, and what its students and controls saw."""
    seen, patch = Seen(), pytest.MonkeyPatch()
    begin, forward = Lifelong.__init__, Lifelong.forward

    def begins(self: Lifelong, student: Tapped, *given: Any) -> None:
        begin(self, student, *given)
        seen.starts.append(copy.deepcopy(student.model.state_dict()))
        seen.batches.append([])
        self.number = len(seen.batches) - 1
        if isinstance(self.teacher, Frozen):
            model = self.teacher.network.model
            seen.teachers.append((model, copy.deepcopy(model.state_dict())))

    def forwards(self: Lifelong, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        if torch.is_grad_enabled() and batch.keys is not None:  # of a training: rehearsals have no plan
            seen.batches[int(self.number)].append(batch)
        return forward(self, batch, teaching)

    patch.setattr(Lifelong, "__init__", begins)
    patch.setattr(Lifelong, "forward", forwards)
    folder = tmp_path_factory.mktemp("lifelong") / "run"
    try:
        return folder, run(recipe(), folder), seen
    finally:
        patch.undo()


def trainings(seen: Seen) -> list[int]:
    """Numbers of the schemes that were trained: control and student of both seeds."""
    found = [number for number, batches in enumerate(seen.batches) if batches]
    assert len(found) == 4
    return found


def rows(images: Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in images}


def test_no_training_sample_of_the_old_task_reaches_student_or_control(finished: Any) -> None:
    _, _, seen = finished
    whole = load("digits", validation=0.1, views={"crop": 0, "flip": False})
    index = torch.arange(len(whole.train)).numpy()
    batch = whole.train.take(index, None, 0)
    assert isinstance(batch.input, Tensor)
    is_old = whole.train.targets < 5
    old, new = rows(batch.input[is_old]), rows(batch.input[~is_old])
    assert not old & new
    for number in trainings(seen):
        pixels = torch.cat([b.input for b in seen.batches[number]])
        labels = torch.cat([b.target for b in seen.batches[number]])
        assert rows(pixels) <= new
        assert int(labels.min()) == 5
        assert len(rows(pixels)) > 0.95 * len(new)  # the last, incomplete batch of a pass is left out


def test_student_and_control_begin_alike_and_see_the_same_plan(finished: Any) -> None:
    _, _, seen = finished
    control, student, second, _ = trainings(seen)
    for name, value in seen.starts[control].items():
        assert torch.equal(value, seen.starts[student][name]), name
    order = [torch.cat([b.index for b in seen.batches[n]]).tolist() for n in (control, student)]
    assert order[0] == order[1]
    weight = [seen.starts[n]["linear.weight"] for n in (control, second)]
    assert torch.equal(weight[0][:5], weight[1][:5]), "the old classes' rows are the teacher's for every seed"
    assert not torch.equal(weight[0][5:], weight[1][5:]), "the new ones are drawn by each seed"


def test_the_frozen_teacher_is_unchanged_to_the_last_bit(finished: Any) -> None:
    folder, _, seen = finished
    model, before = seen.teachers[-1]
    kept = weights.read(folder / "state/teacher/teacher.safetensors")
    assert any("running_mean" in name for name in before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert torch.equal(value.reshape(-1), kept[name].reshape(-1)), name


def test_the_student_begins_as_the_teacher_that_was_trained(finished: Any) -> None:
    folder, _, seen = finished
    kept = weights.read(folder / "state/teacher/teacher.safetensors")
    assert kept["linear.weight"].shape[0] == 5
    for number in trainings(seen):
        for name, value in seen.starts[number].items():
            assert torch.equal(value[:5] if name.startswith("linear") else value, kept[name]), name


def test_the_result_tells_both_tasks(finished: Any) -> None:
    folder, result, _ = finished
    found = result["tasks"]
    assert found["old"]["classes"] == ["0", "1", "2", "3", "4"]
    assert found["new"]["classes"] == ["5", "6", "7", "8", "9"]
    assert found["old"]["teacher"] == result["teacher"]["accuracy"] > 0.3
    assert "teacher" not in found["new"]
    test = load("digits").test.targets
    shares = [int((test < 5).sum()) / len(test), int((test >= 5).sum()) / len(test)]
    for role in ("student", "control"):
        for task in ("old", "new"):
            for alone, joint in zip(found[task][role]["alone"], found[task][role]["joint"], strict=True):
                assert 0 <= joint <= alone <= 1
        # The verdict is about the mean of both tasks alone; plain accuracy is both joint, by their samples.
        for seed in (0, 1):
            alone, joint = ([found[t][role][how][seed] for t in ("old", "new")] for how in ("alone", "joint"))
            assert result[role]["task_accuracy"][seed] == pytest.approx(sum(alone) / 2)
            assert result[role]["accuracy"][seed] == pytest.approx(
                shares[0] * joint[0] + shares[1] * joint[1]
            )
        assert list(result[role]["metrics"]) == ["f1"]
        assert result[role]["agreement"] == [None, None]
    assert result["metric"] == "task_accuracy"
    mean = [sum(result[role]["task_accuracy"]) / 2 for role in ("student", "control")]
    assert result["gain"]["mean"] == pytest.approx(mean[0] - mean[1])
    assert result["exports"]["onnx"]["task_accuracy"] == pytest.approx(result["student"]["task_accuracy"][0])
    gain = found["old"]["gain"]["alone"]
    both = zip(found["old"]["student"]["alone"], found["old"]["control"]["alone"], strict=True)
    assert gain["mean"] == pytest.approx(sum(a - b for a, b in both) / 2)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    student = next(line for line in lines if line["role"] == "student")
    assert {"old_alone", "old_joint", "new_alone", "new_joint", "f1"} <= set(student["metrics"])
    assert (
        "old_alone" not in student["validation_metrics"] or student["validation_metrics"]["old_alone"] is None
    )


def test_page_and_table_show_the_forgetting(finished: Any) -> None:
    folder, result, _ = finished
    record = read(folder)
    assert record.metric == "task accuracy"
    assert [len(one.scores) for one in record.series if one.role in ("student", "control")] == [2] * 4
    drawn = table(record)
    assert drawn.columns == ("", "Teacher", "Control", "Student", "Gain, points")
    named = ["Old task, alone", "Old task, joint", "New task, alone", "New task, joint"]
    assert [row[0] for row in drawn.rows] == named
    told = sentence(record)
    lost = [
        100 * (sum(result["tasks"]["old"][r]["alone"]) / 2 - result["teacher"]["accuracy"])
        for r in ("student", "control")
    ]
    for role, points in zip(("student", "control"), lost, strict=True):
        assert f"the {role} {points:+.2f}".replace("-", "\u2212") in told
    page = (folder / "report.html").read_text()
    assert "Both tasks" in page
    assert told in page
    assert "Teacher, old classes alone" in page
    drawing = learning(record)
    assert drawing is not None
    assert "teacher" not in drawing.alt  # it has no level in the mean of both tasks
    assert "| Teacher, old classes alone |" in card(folder, "./pushed", None, timm=False)


def test_a_run_resumed_when_done_says_the_same(finished: Any) -> None:
    folder, result, _ = finished
    again = run(recipe(), folder, resume=True)
    assert again["tasks"] == result["tasks"]
    with pytest.raises(InputError, match=r"was started with scheme\.old"):
        run(recipe(scheme={"name": "lifelong", "old": [0, 1, 2, 3]}), folder, resume=True)


def test_a_finished_run_may_be_the_teacher(finished: Any, tmp_path: Path) -> None:
    """Of a run's ten classes the old ones are picked; its network is the student's start."""
    folder, _, _ = finished
    given = {"model": f"run:{folder}", "classes": [0, 1, 2, 3, 4]}
    few = {**RECIPE["data"], "mix": {"mixup": 0.2}, "labels": 50, "validation": 0}
    spec = recipe(
        teacher=given, seeds=1, data=few, train={**RECIPE["train"], "epochs": 1}, export={"formats": []}
    )
    result = run(spec, tmp_path / "run")
    assert result["tasks"]["old"]["teacher"] == result["teacher"]["accuracy"]
    assert 0 < result["tasks"]["new"]["student"]["alone"][0] <= 1


def test_replayed_answers_teach_what_asked_ones_do(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights.save(convnet(num_classes=5, width=8), tmp_path / "teacher.safetensors")
    teacher = {
        "model": "py:limbeck.students.small:convnet",
        "width": 8,
        "weights": str(tmp_path / "teacher.safetensors"),
    }
    kept = {**teacher, "cache": {"store": "fp32", "folder": str(tmp_path / "answers")}}
    short = {"seeds": 1, "export": {"formats": []}, "control": False}
    asked = run(recipe(**short, teacher=teacher), tmp_path / "asked")
    replayed = run(recipe(**short, teacher=kept), tmp_path / "replayed")
    assert replayed["tasks"] == asked["tasks"]
    one, other = (weights.read(tmp_path / name / "student.safetensors") for name in ("asked", "replayed"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    with pytest.raises(InputError, match=r"teacher\.cache: .* was made from something else: data"):
        run(
            recipe(**short, teacher=kept, scheme={"name": "lifelong", "old": [5, 6, 7, 8, 9]}),
            tmp_path / "wrong",
        )


# What `check` says, and what is refused


def test_check_says_who_teaches_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(RECIPE))
    found = check(file, [], False)
    told = capsys.readouterr().out
    assert found["scheme"]["tasks"]["old"]["classes"] == ["0", "1", "2", "3", "4"]
    for words in (
        "scheme    lifelong: student and control begin as the teacher",
        "old task  0, 1, 2, 3, 4: 648 training samples for the teacher alone, 181 test samples",
        "new task  5, 6, 7, 8, 9: ",
        "student, new task ← labels, by cross_entropy",
        "student, old task ← teacher, by kd",
    ):
        assert words in told
    assert len(told.splitlines()) < 24, "one screen"


STUDENT = RECIPE["student"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"scheme": "lifelong"}, r"scheme\.old: say which classes the teacher knows"),
        ({"scheme": {"name": "lifelong", "old": []}}, r"scheme\.old: say which classes the teacher knows"),
        ({"scheme": {"name": "lifelong", "old": [0], "kind": "lwf"}}, r"scheme\.kind: lifelong has none"),
        ({"scheme": {"name": "lifelong", "old": [0], "peers": 2}}, r"scheme\.peers: lifelong has none"),
        ({"scheme": {"name": "lifelong", "olds": [0]}}, r'scheme: unknown key "olds"\. Did you mean "old"\?'),
        (
            {"scheme": {"name": "lifelon", "old": [0]}},
            r'unknown scheme "lifelon"\. Did you mean "lifelong"\?',
        ),
        ({"scheme": {"name": "offline", "old": [0]}}, r"scheme\.old: offline has no old task"),
        ({"scheme": {"name": "lifelong", "old": 3}}, r"scheme\.old: must be"),
        (
            {"scheme": "offline", "metric": "task_accuracy"},
            "metric: task_accuracy is for the scheme lifelong",
        ),
        ({"teacher": None}, r"teacher: is missing\. It is the network that knows the old classes"),
        (
            {"objective": {"cross_entropy": 1}},
            "all terms look at labels alone, so the old task would be forgotten",
        ),
        ({"objective": {"cross_entropy": 1, "kd": 0}}, "the old task would be forgotten"),
        ({"objective": {"kd": 1}, "control": False}, "no term looks at labels, so the new task would not"),
        (
            {"objective": {"cross_entropy": 1, "dkd": 1}},
            r"objective\.dkd: needs each sample's class among those",
        ),
        ({"objective": {"cross_entropy": 1, "simkd": {"layers": "auto"}}}, "which knows no new class"),
        ({"student": {**STUDENT, "weights": "a.safetensors"}}, r"student\.weights: with the scheme lifelong"),
        (
            {"student": {"model": "timm:resnet18", "pretrained": True}},
            r"student\.pretrained: with the scheme",
        ),
        ({"student": {"model": "run:here"}}, r"student\.model: a finished run's student"),
        (
            {"variants": {"a": {"objective": {"cross_entropy": 1, "kd": 1}}}},
            "variants: is not for the scheme lifelong",
        ),
        ({"control": {"teacher": RECIPE["teacher"]}}, r"control\.teacher: is not for the scheme lifelong"),
        ({"train": {**RECIPE["train"], "shard": "teacher"}}, r"train\.shard: is not for the scheme lifelong"),
    ],
)
def test_what_makes_no_sense_is_refused_when_the_recipe_is_read(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        recipe(**changed)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"scheme": {"name": "lifelong", "old": ["one", 1]}}, r'scheme\.old: unknown class "one"'),
        ({"scheme": {"name": "lifelong", "old": list(range(10))}}, "all 10 classes are old"),
        ({"student": {**STUDENT, "width": 4}}, "student: cannot begin as its teacher"),
        ({"student": {**STUDENT, "depth": 3}}, "student: cannot begin as its teacher"),
        (
            {"teacher": {"model": "py:limbeck.students.small:convnet", "width": 8, "num_classes": 10}},
            r"teacher\.classes: the teacher answers 10 classes and the data have 5",
        ),
        ({"data": {**RECIPE["data"], "labels": 1000}}, r"data\.labels: must be from 0 to \d+"),
        ({"metrics": ["new_joint"]}, r"metrics\.new_joint"),
        (
            {"train": {**RECIPE["train"], "checkpoint": {"take": "best", "watch": "old_alone"}}},
            r'train\.checkpoint\.watch: unknown figure "old_alone"',
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_check(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        examine(recipe(**changed))


def test_the_verdict_may_be_about_all_classes() -> None:
    assert recipe().metric == "task_accuracy"
    assert recipe(metric="accuracy").metric == "accuracy"
    assert Recipe.from_dict(recipe(metric="accuracy").dump()).metric == "accuracy"
