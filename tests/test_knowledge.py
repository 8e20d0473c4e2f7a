"""What a loader may yield, and how a batch moves."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.knowledge import UNLABELLED, Batch, Knowledge, as_batch

X, Y = torch.zeros(4, 3), torch.tensor([0, 1, UNLABELLED, 1])


@pytest.mark.parametrize(
    ("item", "target"),
    [(X, None), ((X,), None), ([X], None), ((X, Y), Y), ([X, Y], Y), ((X, None), None), ({"input": X}, None)],
)
def test_what_a_loader_yields_becomes_a_batch(item: Any, target: Tensor | None) -> None:
    batch = as_batch(item)
    assert batch.input is X
    assert batch.target is target
    assert len(batch) == 4


def test_a_batch_is_taken_as_it_is() -> None:
    batch = Batch(X, Y, index=torch.arange(4))
    assert as_batch(batch) is batch
    assert as_batch({"input": X, "target": Y, "view": Y}).view is Y


def test_several_modalities() -> None:
    batch = as_batch(({"image": X, "sound": torch.zeros(4, 9)}, Y))
    assert len(batch) == 4
    moved = batch.to("meta")
    assert isinstance(moved.input, dict)
    assert {name: value.device.type for name, value in moved.input.items()} == {
        "image": "meta",
        "sound": "meta",
    }


@pytest.mark.parametrize("item", [None, 3, "x", (X, Y, Y), (), ([1, 2], Y), {"images": X}, SimpleNamespace()])
def test_anything_else_is_refused(item: Any) -> None:
    with pytest.raises(TypeError, match=r"a loader must yield .*; got "):
        as_batch(item)


def test_moving_takes_everything_along() -> None:
    batch = Batch(X, Y, index=torch.arange(4), view=torch.zeros(4), labelled=torch.tensor(3.0)).to("meta")
    for value in (batch.input, batch.target, batch.index, batch.view, batch.labelled):
        assert isinstance(value, Tensor)
        assert value.device.type == "meta"
    assert Batch(X).to("meta").target is None


def test_moving_to_where_it_is_copies_nothing() -> None:
    batch = Batch(X, Y)
    assert batch.to("cpu").input is X
    assert batch.to("cpu").target is Y


def test_detached_knowledge_is_cut_off_and_equal() -> None:
    layer = nn.Linear(3, 2)
    said = Knowledge(layer(X), (layer(X), X))
    cut = said.detach()
    assert not cut.logits.requires_grad
    assert not any(f.requires_grad for f in cut.features)
    assert torch.equal(cut.logits, said.logits)
    assert len(cut.features) == 2
    assert said.logits.requires_grad
