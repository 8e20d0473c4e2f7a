"""A teacher that is asked about several coming batches says what it says when asked about each."""

import itertools
from typing import Any

import pytest
import torch
from test_trainer import STEPS, Made, student, teacher, weights
from torch import Tensor

from limbeck import Batch, Knowledge, Objective, Offline, Runtime, Tapped, Term, Trainer, Training
from limbeck.teachers import Frozen
from limbeck.training.ahead import batches_ahead

TERMS: dict[str, Term | float] = {"cross_entropy": 0.5, "kd": 0.5}


class Counting(Frozen):
    """Notes how many samples it is asked about at a time."""

    def __init__(self) -> None:
        before = teacher()
        super().__init__(before.network)
        self.asked: list[int] = []

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        self.asked.append(len(batch))
        return super().__call__(batch, differentiable)


def trained(ahead: int, parts: int = 1, steps: int | None = None, **more: Any) -> tuple[Trainer, Counting]:
    taught = Counting()
    scheme = Offline(Tapped(student()), Objective(TERMS), taught)
    settings = Training(epochs=2, schedule={"name": "constant"})
    made = Trainer(scheme, settings, Runtime("cpu", channels_last=False), STEPS, seed=3, ahead=ahead)
    for _ in itertools.islice(made.fit(Made(parts)), steps):
        pass
    return made, taught


def check_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("ahead", [2, 3, 16])
def test_training_is_the_same_however_far_the_teacher_looks_ahead(ahead: int, parts: int) -> None:
    plain, asked_plainly = trained(1, parts)
    looking, asked = trained(ahead, parts)
    check_close(weights(plain), weights(looking))
    assert sum(asked.asked) == sum(asked_plainly.asked)
    assert max(asked.asked) == min(ahead, STEPS) * 16
    assert len(asked.asked) == 2 * -(-STEPS // ahead)


def test_a_training_that_goes_on_asks_in_the_same_groups() -> None:
    whole, _ = trained(3)
    begun, _ = trained(3, steps=2)
    state = begun.state()
    again, taught = trained(3, steps=0)
    again.load_state(state)
    assert again.step == 2
    taught.asked.clear()
    for _ in again.fit(Made()):
        pass
    assert taught.asked[:2] == [48, 16]
    for name, value in weights(whole).items():
        assert torch.equal(weights(again)[name], value), name


def test_a_teacher_that_changes_is_asked_in_each_step() -> None:
    class Changing(Counting):
        steady = False

    taught = Changing()
    scheme = Offline(Tapped(student()), Objective(TERMS), taught)
    made = Trainer(scheme, Training(epochs=1), Runtime("cpu", channels_last=False), STEPS, ahead=3)
    for _ in made.fit(Made()):
        pass
    assert taught.asked == [16] * STEPS


def test_how_far_is_left_to_the_device() -> None:
    runtime = Runtime("cpu")
    assert batches_ahead(None, 64, runtime) == 1
    assert batches_ahead(5, 64, runtime) == 5
    runtime.device = torch.device("cuda")
    assert [batches_ahead(None, size, runtime) for size in (1, 64, 512, 4096)] == [16, 16, 2, 1]
