"""Several teachers from Python: a list or a mapping of modules, weighted, unchanged and given back."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import limbeck
from limbeck.errors import InputError
from limbeck.teachers.weightings import Confidence

QUIET: dict[str, Any] = {"progress": False, "device": "cpu", "epochs": 4, "control": False}


def net(width: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))


def loader() -> "DataLoader[Any]":
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(192, 6, generator=drawn)
    y = (x @ torch.randn(6, 3, generator=drawn)).argmax(1)
    return DataLoader(TensorDataset(x, y), batch_size=32)


def taught(width: int = 24) -> nn.Sequential:
    """A network that knows the task."""
    model = net(width, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(15):
        for x, y in loader():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    model.zero_grad()
    return model


def test_a_list_and_a_mapping_are_weighted_and_left_as_they_came() -> None:
    good, blank = taught(), net(16, seed=2)
    before = copy.deepcopy([good.state_dict(), blank.state_dict()])
    modes = [m.training for n in (good, blank) for m in n.modules()]
    listed = limbeck.distill([good, blank], net(8), loader(), loader(), weighting="confidence", **QUIET)
    named = limbeck.distill(
        {"good": good, "blank": blank}, net(8), loader(), loader(), weighting=Confidence(), **QUIET
    )
    assert list(listed.weights) == ["teacher-1", "teacher-2"]
    assert named.weights["good"] == pytest.approx(listed.weights["teacher-1"])
    assert sum(named.weights.values()) == pytest.approx(1, abs=1e-5)
    assert named.weights["good"] > 0.6
    assert named.teachers["good"].accuracy > 0.9 > named.teachers["blank"].accuracy
    assert named.teacher is not None
    assert named.evaluation is not None
    assert named.evaluation.agreement is not None
    for network, state in zip((good, blank), before, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in network.parameters())
        assert all(not m._forward_hooks for m in network.modules())
    assert [m.training for n in (good, blank) for m in n.modules()] == modes


def test_terms_of_layers_reach_the_student_from_every_teacher() -> None:
    teachers = {"good": net(12, seed=1), "blank": net(16, seed=2)}
    students = []
    for layers in ({"0": "0"}, {"0": "good/0"}, {"0": "blank/0"}):
        student = net(8)
        hint = limbeck.Term("hint", weight=2.0, layers=layers)
        found = limbeck.distill(teachers, student, loader(), objective={"mine": hint}, **QUIET)
        assert found.weights == pytest.approx({"good": 0.5, "blank": 0.5})
        students.append(student[0].weight.detach().clone())
    assert all(not torch.equal(students[a], students[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("teacher", "options", "message"),
    [
        (lambda: net(8), {"weighting": "confidence"}, "weighting: says how much each of several"),
        (lambda: [net(8), net(8)], {"weighting": "confidense"}, 'Did you mean "confidence"'),
        (lambda: [net(8), net(8)], {"weighting": [1, 2, 3]}, "one for each of 2 teachers, got 3"),
        (lambda: [], {}, "teacher: there is none"),
        (lambda: {"a/b": net(8), "c": net(8)}, {}, 'a name must be text without "/"'),
        (
            lambda: [net(8), net(8)],
            {"objective": {"hint": limbeck.Term(layers={"0": "god/0"})}},
            'unknown teacher "god"',
        ),
        (
            lambda: [net(8), net(8)],
            {"objective": {"simkd": limbeck.Term(layers={"3:in": "3:in"}), "cross_entropy": 1.0}},
            "there are several teachers",
        ),
        (
            lambda: [net(8), nn.Sequential(nn.Linear(6, 5))],
            {},
            r"teacher\.teacher-2: answers \[8, 5\]",
        ),
    ],
)
def test_what_cannot_work_is_said(teacher: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        limbeck.distill(teacher(), net(4), loader(), **{**QUIET, **options})


def test_one_in_a_list_is_the_one_teacher() -> None:
    alone = limbeck.distill(net(12, seed=1), net(8), loader(), loader(), **QUIET)
    listed = limbeck.distill([net(12, seed=1)], net(8), loader(), loader(), **QUIET)
    assert alone.evaluation == listed.evaluation
    assert not listed.weights
