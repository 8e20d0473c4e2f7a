"""A frozen teacher answers as it came, never changes, and is given back as it came."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.taps import Tapped
from limbeck.teachers import Frozen, Teacher
from limbeck.training.runtime import Runtime


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, 5)
    )


def batch(seed: int = 0) -> Batch:
    return Batch(torch.randn(6, 1, 6, 6, generator=torch.Generator().manual_seed(seed)))


def state(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(model.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_it_answers_in_eval_mode_without_gradient() -> None:
    model = network()
    wanted = copy.deepcopy(model).eval()(batch().input)
    said = Frozen(Tapped(model, ["0", "2"]))(batch())
    assert torch.equal(said.logits, wanted)
    assert not said.logits.requires_grad
    assert [f.requires_grad for f in said.features] == [False, False]


@pytest.mark.parametrize(
    "meddle",
    [
        lambda frozen, model: frozen.network.train(),
        lambda frozen, model: model.train(),
        lambda frozen, model: model[1].train(),
        lambda frozen, model: model[3].train(),
    ],
    ids=["tapped", "whole", "batchnorm", "dropout"],
)
def test_calling_train_from_outside_changes_nothing(meddle: Callable[[Any, Any], None]) -> None:
    """The caller still holds the plain module; its BatchNorm must not move, its Dropout must not drop."""
    model = network()
    frozen = Frozen(Tapped(model))
    wanted, before = frozen(batch()).logits, state(model)
    meddle(frozen, model)
    assert torch.equal(frozen(batch()).logits, wanted)
    assert same(state(model), before)


def test_the_gradient_passes_through_to_the_input() -> None:
    model = network()
    frozen = Frozen(Tapped(model, ["0"]))
    x = cast(Tensor, batch().input).requires_grad_()
    said = frozen(Batch(x), differentiable=True)
    (said.logits.square().sum() + said.features[0].sum()).backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        assert frozen(Batch(x), differentiable=True).logits.requires_grad
    assert not frozen(Batch(x)).logits.requires_grad


def test_it_is_no_module_that_others_could_reach() -> None:
    holder = nn.Module()
    holder.teacher = Frozen(Tapped(network()))
    assert not isinstance(holder.teacher, nn.Module)
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}


def test_classes_are_picked_in_their_order() -> None:
    model = network()
    every = Frozen(Tapped(model))(batch()).logits
    assert torch.equal(Frozen(Tapped(model), [4, 0, 2])(batch()).logits, every[:, [4, 0, 2]])


@pytest.mark.parametrize(
    ("classes", "message"),
    [([0, 5], "index 5 is out of range; the teacher has 5 classes"), ([-1], "from 0 up"), ([], "from 0 up")],
)
def test_classes_that_are_not_there_are_refused(classes: list[int], message: str) -> None:
    with pytest.raises(InputError, match=f"teacher.classes: .*{message}"):
        Frozen(Tapped(network()), classes)(batch())


def test_it_is_given_back_as_it_came() -> None:
    model = network()
    model.eval()
    model[3].train()
    model[0].weight.requires_grad_(False)
    flags = [p.requires_grad for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    frozen = Frozen(Tapped(model, ["0", "2:in"]))
    frozen(batch())
    assert not any(p.requires_grad for p in model.parameters())
    frozen.close()
    assert [p.requires_grad for p in model.parameters()] == flags
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_placing_moves_and_compiles_once() -> None:
    placed: list[nn.Module] = []
    runtime = cast(
        Runtime,
        SimpleNamespace(
            place=placed.append, shards=lambda part: False, device=torch.device("cpu"), compile=True
        ),
    )
    frozen = Frozen(Tapped(network(), ["0"]), [1, 2])
    frozen.place(runtime)
    compiled = frozen.network._compiled_call_impl
    assert compiled is not None
    frozen.place(runtime)  # several seeds share one teacher
    assert frozen.network._compiled_call_impl is compiled
    assert placed == [frozen.network, frozen.network]


def test_a_frozen_teacher_has_no_state() -> None:
    frozen = Frozen(Tapped(network()))
    assert isinstance(frozen, Teacher)
    assert frozen.state() == {}
    frozen.load_state({})
    frozen.after_step(nn.Linear(1, 1))
