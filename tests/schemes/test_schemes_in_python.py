"""`limbeck.distill` with a scheme instead of a teacher: plain modules and a plain loader."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from limbeck.api import distill
from limbeck.errors import InputError
from limbeck.objective import Term
from limbeck.students.early import EarlyExit
from limbeck.students.small import convnet

QUIET: dict[str, Any] = {
    "progress": False,
    "device": "cpu",
    "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9},
}


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return convnet(3, width=4, depth=3)


def loader(count: int = 48) -> DataLoader[Any]:
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(count, 1, 8, 8, generator=draw)
    return DataLoader(TensorDataset(x, x.flatten(1)[:, :3].argmax(1)), 16)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def changed(model: nn.Module, before: dict[str, Tensor]) -> bool:
    return any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("kind", ["mutual", "kdcl", "okddip", "pcl", "codistillation", "one"])
def test_peers_learn_in_place_and_keep_no_hook(kind: str) -> None:
    student, *others = (net(seed) for seed in range(3))
    before = [state(model) for model in (student, *others)]
    options = {"views": False} if kind in ("kdcl", "pcl") else {}
    scheme = {"name": "online", "kind": kind, "peers": others, **options}
    found = distill(None, student, loader(), loader(30), scheme=scheme, epochs=2, **QUIET)
    assert found.student is student
    assert found.gain is not None
    assert found.teacher is None
    assert "ensemble" in found.others
    assert not student.training
    for model, was in zip((student, *others), before, strict=True):
        assert hooks(model) == 0
        # The branches of ONE are grown from these, and are networks of their own.
        assert changed(model, was) or (kind == "one" and model is not student)


@pytest.mark.parametrize("kind", ["ema", "progressive", "snapshot"])
def test_a_student_teaches_itself(kind: str) -> None:
    student = net()
    before = state(student)
    found = distill(
        None, student, loader(), loader(30), scheme={"name": "own", "kind": kind}, epochs=4, **QUIET
    )
    assert found.student is student
    assert changed(student, before)
    assert hooks(student) == 0
    assert found.gain is not None


def test_exits_come_back_with_the_student() -> None:
    student = net()
    found = distill(None, student, loader(), loader(30), scheme={"name": "own", "kind": "exits"}, **QUIET)
    assert list(found.others) == ["exit-1", "exit-2"]
    assert any(module is student for module in found.student.modules())
    assert found.student(torch.rand(2, 1, 8, 8)).shape == (2, 3)


def test_the_objective_is_the_papers_where_none_is_given() -> None:
    one, other = net(), net()
    scheme = {"name": "own", "kind": "ema"}
    distill(None, one, loader(), scheme=scheme, epochs=2, control=False, **QUIET)
    published: Any = {"cross_entropy": 1.0, "kd": 1.0}
    distill(None, other, loader(), scheme=scheme, objective=published, epochs=2, control=False, **QUIET)
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in one.state_dict().items())


def test_layers_of_its_own_average() -> None:
    terms: Any = {"cross_entropy": 1.0, "attention_transfer": Term(weight=10, layers="auto")}
    student = net()
    found = distill(
        None,
        student,
        loader(),
        loader(30),
        scheme={"name": "own", "kind": "ema"},
        objective=terms,
        epochs=1,
        **QUIET,
    )
    assert found.evaluation is not None
    assert hooks(student) == 0


def test_nobody_learns_from_itself() -> None:
    student = net()
    with pytest.raises(InputError, match="peer-2 shares its weights with the student"):
        distill(None, student, loader(), scheme={"name": "online", "peers": [student]}, **QUIET)


@pytest.mark.parametrize("threshold", ["a", [0.5], float("nan"), -0.1, True])
def test_a_threshold_is_a_number(threshold: Any) -> None:
    whole = distill(None, net(), loader(), scheme={"name": "own", "kind": "exits"}, epochs=1, **QUIET).student
    with pytest.raises(InputError, match="threshold must be a number from 0 up"):
        EarlyExit(whole, threshold)


TWIN = net(7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "onlin"}, 'unknown scheme "onlin". Did you mean "online"'),
        ({"scheme": "own"}, "say by kind how the student teaches itself; one of"),
        ({"scheme": {"name": "own", "kind": "emma"}}, 'Did you mean "ema"'),
        ({"scheme": {"name": "own", "kind": "ema", "decai": 1}}, 'Did you mean "decay"'),
        ({"scheme": {"name": "own", "kind": "ema", "peers": [net()]}}, "own is one network"),
        ({"scheme": "online"}, "give the networks that learn beside the student"),
        ({"scheme": {"name": "online", "peers": ["resnet"]}}, "must be modules"),
        ({"scheme": {"name": "online", "kind": "one"}}, "give 2 (scheme.branches counts the student), got 0"),
        ({"scheme": {"name": "online", "kind": "one", "peers": [net(1)]}}, "give 2 (scheme.branches"),
        ({"scheme": {"name": "own", "kind": "class_wise"}}, "a loader of your own cannot give"),
        ({"scheme": {"name": "own", "kind": "distortion"}}, "a loader of your own cannot give"),
        ({"scheme": {"name": "own", "kind": "last_batch"}}, "a loader of your own cannot give"),
        ({"scheme": {"name": "online", "kind": "kdcl", "peers": [net(1)]}}, "or give views: False"),
        ({"scheme": {"name": "online", "peers": {"student": net(1)}}}, "cannot be a peer's name"),
        ({"scheme": {"name": "online", "peers": {"control": net(1)}}}, "cannot be a peer's name"),
        ({"scheme": {"name": "online", "peers": {"ensemble": net(1)}}}, "cannot be a peer's name"),
        ({"scheme": {"name": "online", "peers": [TWIN, TWIN]}}, "peer-3 shares its weights with peer-2"),
        (
            {"scheme": {"name": "own", "kind": "ema"}, "objective": {"cross_entropy": 1.0}},
            "would teach nothing; add a term such as kd",
        ),
        ({"teacher": {1: net(1), 2: net(2)}}, "a name must be text"),
        ({"teacher": "resnet"}, "must be a module"),
        ({"scheme": {"name": "own", "kind": "ema"}, "teacher": net(5)}, "there is none; give None"),
        (
            {
                "scheme": {"name": "online", "peers": [net(1)]},
                "objective": {"cross_entropy": 1.0, "hint": Term(layers={"stage1": "stage1"})},
            },
            "only responses are exchanged",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(
    options: dict[str, Any], message: str
) -> None:
    student = net()
    before = state(student)
    with pytest.raises(InputError) as caught:
        distill(options.pop("teacher", None), student, loader(), epochs=1, **options, **QUIET)
    assert message in str(caught.value)
    assert not changed(student, before)
    assert hooks(student) == 0
