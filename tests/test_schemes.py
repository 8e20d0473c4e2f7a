"""`Offline` asks the teacher only where somebody listens, and owns what learns."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import functional
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Probe
from limbeck.objective import Objective, Ramp, Term
from limbeck.schemes import Offline, Scheme
from limbeck.taps import Tapped
from limbeck.teachers import Frozen, Teacher
from limbeck.training.runtime import Runtime

BATCH = Batch(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 0]))


def network(width: int = 5) -> nn.Sequential:
    torch.manual_seed(width)
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


class Noting(Teacher):
    """Counts what it is asked and told."""

    def __init__(self) -> None:
        self.asked = 0
        self.told: list[nn.Module] = []
        self.placed: list[Runtime] = []
        self.memory = torch.zeros(1)

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        self.asked += 1
        return Knowledge(torch.zeros(len(batch), 2))

    def place(self, runtime: Runtime) -> None:
        self.placed.append(runtime)

    def state(self) -> dict[str, Tensor]:
        return {"memory": self.memory}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.memory = state["memory"]

    def after_step(self, student: nn.Module) -> None:
        self.told.append(student)


def test_labels_alone_do_not_ask_the_teacher() -> None:
    teacher = Noting()
    scheme = Offline(Tapped(network()), Objective({"cross_entropy": 1.0}), teacher)
    assert scheme.teach(BATCH) is None
    assert teacher.asked == 0
    assert set(scheme(BATCH, None)) == {"loss", "cross_entropy"}


def test_the_teacher_is_asked_once_a_batch_for_all_terms() -> None:
    teacher = Noting()
    objective = Objective({"cross_entropy": 1.0, "kd": 1.0, "dkd": 1.0})
    scheme = Offline(Tapped(network()), objective, teacher)
    scheme(BATCH, scheme.teach(BATCH))
    assert teacher.asked == 1


def test_without_a_teacher_nobody_may_need_one() -> None:
    with pytest.raises(InputError, match=r"objective\.kd compares with a teacher, and there is none"):
        Offline(Tapped(network()), Objective({"cross_entropy": 1.0, "kd": 0.5}))
    assert Offline(Tapped(network()), Objective({"cross_entropy": 1.0})).teach(BATCH) is None


def test_the_loss_is_that_of_student_and_teacher() -> None:
    student, teacher = network(5), network(9)
    scheme = Offline(Tapped(student), Objective({"kd": 1.0}), Frozen(Tapped(teacher)))
    losses = scheme(BATCH, scheme.teach(BATCH))
    wanted = functional.kd(student(BATCH.input), teacher(BATCH.input))
    torch.testing.assert_close(losses["loss"], wanted, rtol=0, atol=0)
    losses["loss"].backward()
    assert all(p.grad is not None for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_what_learns_is_the_student_and_the_methods_layers() -> None:
    objective = Objective({"hint": Term(layers={"0": "0"})})
    student, teacher = Tapped(network(5), objective.student_taps), Tapped(network(9), objective.teacher_taps)
    frozen = Frozen(teacher)
    with torch.no_grad():
        objective.setup(Probe(student(BATCH.input), frozen(BATCH), BATCH))
    student.model[0].bias.requires_grad_(False)
    scheme = Offline(student, objective, frozen)
    (part,) = scheme.parts().values()
    names = [name for name, _ in part]
    assert names[:3] == ["student.model.0.weight", "student.model.2.weight", "student.model.2.bias"]
    assert names[3:]
    assert all(name.startswith("objective.methods.hint.regressors") for name in names[3:])
    assert scheme.active(7) is None  # all of them
    assert not any("teacher" in name for name in scheme.state_dict())


def test_the_scheme_passes_on_what_the_trainer_says() -> None:
    teacher = Noting()
    objective = Objective({"kd": Term(weight=Ramp(0, 2, 4))})
    scheme: Scheme = Offline(Tapped(network()), objective, teacher)
    scheme.before_step(1.0)
    assert float(objective.ramped) == 0.5
    scheme.after_step()
    assert teacher.told == [scheme.student.model]
    assert scheme.teacher_state() == {"memory": teacher.memory}
    scheme.load_teacher_state({"memory": torch.ones(1)})
    assert float(teacher.memory) == 1


def test_placing_takes_the_teacher_along(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime("cpu")
    teacher = Noting()
    placed: list[Any] = []
    monkeypatch.setattr(runtime, "place", lambda *given, learns: placed.append((*given, learns)))
    scheme = Offline(Tapped(network()), Objective({"kd": 1.0}), teacher)
    scheme.place(runtime)
    assert placed == [(scheme, "student", True)]
    assert teacher.placed == [runtime]


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.after_step(),
        lambda s: s.teacher_state() == {},
        lambda s: s.load_teacher_state({}),
        lambda s: s.place(Runtime("cpu")),
        lambda s: s.before_step(0.5),
    ],
)
def test_plain_training_needs_no_teacher_anywhere(call: Callable[[Scheme], object]) -> None:
    assert call(Offline(Tapped(network()), Objective({"cross_entropy": 1.0}))) in (None, True)


def test_compiled_in_one_graph_the_losses_and_gradients_are_the_same() -> None:
    torch._dynamo.reset()
    found = []
    for compiled in (False, True):
        objective = Objective({"cross_entropy": 0.5, "kd": 1.0, "hint": Term(layers={"1:copy": "0"})})
        student = Tapped(network(5), objective.student_taps)
        teacher = Frozen(Tapped(network(9), objective.teacher_taps))
        with torch.no_grad():
            objective.setup(Probe(student(BATCH.input), teacher(BATCH), BATCH))
        scheme = Offline(student, objective, teacher)
        if compiled:
            scheme.compile(backend="aot_eager", fullgraph=True)
        losses = scheme(BATCH, scheme.teach(BATCH))
        losses["loss"].backward()
        assert student.model[0].weight.grad is not None
        found.append([*losses.values(), student.model[0].weight.grad])
    torch.testing.assert_close(found[1], found[0])
