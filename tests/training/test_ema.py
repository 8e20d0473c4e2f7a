"""The moving average of the weights: its value, its ramps, and that lending it leaves no trace."""

import math

import pytest
import torch
from torch import nn

from limbeck.errors import InputError
from limbeck.students.small import convnet
from limbeck.taps import Tapped
from limbeck.training.ema import Averaging, Ema


def network() -> nn.Module:
    torch.manual_seed(1)
    return convnet(width=4)


def disturb(model: nn.Module, step: int) -> None:
    """Change every weight and statistic, as a training step does."""
    drawn = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.randn(value.shape, generator=drawn))
            else:
                value.add_(1)


def test_the_average_is_the_recursion_of_the_paper() -> None:
    model = network()
    ema = Ema(model, Averaging(0.9, "constant"), total=5)
    expected = {n: v.double().clone() for n, v in model.state_dict().items()}
    for step in range(1, 6):
        disturb(model, step)
        ema.update(step)
        for name, value in model.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value.double()
    for name, value in ema.state().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(value, model.state_dict()[name])  # a count is copied, not averaged


@pytest.mark.parametrize(
    ("averaging", "expected"),
    [
        (Averaging(0.99, "constant"), [0.99, 0.99, 0.99]),
        (Averaging(0.99, "threshold"), [2 / 11, 11 / 20, 0.99]),
        (Averaging(0.99), [0.99 * (1 - math.exp(-15 * n / 1000)) for n in (1, 10, 1000)]),
        (Averaging(0.99, beta=3.0), [0.99 * (1 - math.exp(-3 * n / 1000)) for n in (1, 10, 1000)]),
    ],
)
def test_the_ramps(averaging: Averaging, expected: list[float]) -> None:
    assert [averaging.at(n, 1000) for n in (1, 10, 1000)] == pytest.approx(expected)


def test_lending_the_average_leaves_the_network_and_the_average_as_they_were() -> None:
    model = network()
    ema = Ema(model, Averaging(0.5, "constant"), total=2)
    disturb(model, 1)
    ema.update(1)
    own = {n: v.clone() for n, v in model.state_dict().items()}
    average = {n: v.clone() for n, v in ema.state().items()}
    with ema.applied():
        for name, value in model.state_dict().items():
            assert torch.equal(value, average[name])
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name])
        assert torch.equal(ema.state()[name], average[name])
    ema.settle()
    for name, value in model.state_dict().items():
        assert torch.equal(value, average[name])


def test_a_tapped_network_goes_on_reading_its_own_layers() -> None:
    tapped = Tapped(network(), ["stage1"])
    ema = Ema(tapped, Averaging(0.5, "constant"), total=2)
    disturb(tapped, 1)
    x = torch.rand(2, 1, 8, 8)
    tapped.eval()
    with torch.no_grad():
        before = tapped(x).features[0]
        with ema.applied():
            other = tapped(x).features[0]
        after = tapped(x).features[0]
    assert torch.equal(before, after)
    assert not torch.equal(before, other)


def test_shared_weights_are_averaged_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    ema = Ema(model, Averaging(0.5, "constant"), total=1)
    before = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
    ema.update(1)
    ema.settle()
    torch.testing.assert_close(model[0].weight.detach(), before + 0.5)


def test_another_networks_average_is_refused() -> None:
    ema = Ema(network(), Averaging(), total=1)
    with pytest.raises(InputError, match="does not fit"):
        ema.load_state(Ema(nn.Linear(1, 1), Averaging(), total=1).state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, r"train\.ema\.decay: must be from 0 to below 1, got 1\.0"),
        ({"schedule": "exponental"}, "exponential"),
        ({"beta": 0.0}, r"train\.ema\.beta: must be above 0"),
    ],
)
def test_bad_values_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Averaging(**options)  # type: ignore[arg-type]
