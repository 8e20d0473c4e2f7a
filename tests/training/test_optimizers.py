"""What the optimiser decays, and how the learning rate ends."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.errors import InputError
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.settings import Training


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm([2, 4, 4]), nn.Flatten(), nn.Linear(32, 3)
    )


def decayed(**settings: object) -> dict[str, bool]:
    """Which parameters shrink in a step without any gradient."""
    model = network()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1.0)
            p.grad = torch.zeros_like(p)
    options = {"name": "sgd", "lr": 0.1, "weight_decay": 0.1}
    made = build_optimizer(list(model.named_parameters()), Training(optimizer=options, **settings))  # type: ignore[arg-type]
    made.step()
    return {name: bool((p < 1).all()) for name, p in model.named_parameters()}


def test_biases_and_norms_are_decayed_unless_they_are_spared() -> None:
    assert all(decayed().values())
    spared = decayed(decay_bias_and_norm=False)
    # A layer norm over maps has weights of three dimensions: not what the rule means by one.
    assert [name for name, shrinks in spared.items() if shrinks] == ["0.weight", "2.weight", "4.weight"]


@pytest.mark.parametrize("name", ["lamb", "adamw", "lion", "rmsprop"])
def test_an_optimisers_own_decay_is_spared_too(name: str) -> None:
    options = {"name": name, "lr": 0.01, "weight_decay": 0.5}
    settings = Training(optimizer=options, decay_bias_and_norm=False)
    made = build_optimizer(list(network().named_parameters()), settings)
    assert [group["weight_decay"] for group in made.param_groups] == [0.5, 0.0]


def test_parameters_that_are_all_spared_make_one_group() -> None:
    parameters = [("bias", nn.Parameter(torch.ones(3)))]
    made = build_optimizer(parameters, Training(decay_bias_and_norm=False))
    assert len(made.param_groups) == 1


def rates(**schedule: object) -> list[float]:
    """The rate of each of 100 steps, 10 an epoch."""
    settings = Training(epochs=10, optimizer={"name": "sgd", "lr": 1.0}, schedule=schedule)
    made = build_optimizer([("weight", nn.Parameter(torch.ones(1)))], settings)
    steered = build_schedule(made, settings, steps_per_epoch=10)
    found = []
    for step in range(100):
        steered.step_update(step)
        found.append(float(made.param_groups[0]["lr"]))
    return found


@pytest.mark.parametrize("name", ["cosine", "polynomial"])
def test_the_cool_down_holds_the_final_rate(name: str) -> None:
    found = rates(name=name, warmup_epochs=2, cooldown_epochs=3, final=0.01)
    assert found[70:] == pytest.approx([0.01] * 30)
    assert found[69] > 0.01
    assert found[20] == pytest.approx(1.0)  # the top of the warm-up
    middle = {"cosine": 0.01 + 0.99 / 2, "polynomial": 0.01 + 0.99 * 0.5**0.9}[name]
    assert found[45] == pytest.approx(middle)  # halfway between warm-up and cool-down


def test_a_cosine_in_cycles_starts_anew() -> None:
    found = rates(name="cosine", cycles=4, final=0.1)
    one = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 25)) / 2 for step in range(25)]
    assert found == pytest.approx(one * 4)
    assert rates(name="cosine", cycles=1) == rates(name="cosine")
    warm = rates(name="cosine", cycles=3, warmup_epochs=1, cooldown_epochs=3)
    assert [step for step in range(1, 100) if warm[step] > warm[step - 1] + 1e-6][10:] == [30, 50]
    assert warm[70:] == pytest.approx([0.0] * 30)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"name": "cosine", "warmup_epochs": 8, "cooldown_epochs": 2.5},
            r"train\.schedule\.warmup_epochs: 8 and cooldown_epochs: 2\.5 must fit into train\.epochs: 10\.",
        ),
        (
            {"name": "polynomial", "cooldown_epochs": 11},
            r"train\.schedule\.cooldown_epochs: 11 must fit into",
        ),
        ({"name": "constant", "warmup_epochs": 11}, r"train\.schedule\.warmup_epochs: 11 must fit into"),
        ({"warmup_epochs": 11}, r"train\.schedule\.warmup_epochs: 11 must fit into"),
        ({"warmup_epochs": "x"}, r"train\.schedule\.warmup_epochs: must be a number from 0 up, given 'x'"),
        ({"cooldown_epochs": -1}, r"train\.schedule\.cooldown_epochs: must be a number from 0 up, given -1"),
    ],
)
def test_a_warm_up_and_a_cool_down_must_fit_into_the_training(
    schedule: dict[str, object], message: str
) -> None:
    """They would leave no step at a rate worth having, and say nothing."""
    with pytest.raises(InputError, match=message):
        Training(epochs=10, schedule=schedule)
    if "name" in schedule:
        Training(epochs=0, schedule=schedule)  # nothing is trained


def test_a_warm_up_may_fill_the_training() -> None:
    assert rates(name="cosine", warmup_epochs=10) == pytest.approx([(step + 1) / 101 for step in range(100)])
    found = rates(name="cosine", warmup_epochs=7, cooldown_epochs=3, final=0.5)
    assert found[:70] == pytest.approx([(step + 1) / 71 for step in range(70)])
    assert found[72:] == pytest.approx([0.5] * 28)


def test_the_power_of_a_polynomial() -> None:
    assert rates(name="polynomial", power=2.0)[50] == pytest.approx(0.25)


@pytest.mark.parametrize("options", [{"name": "sgd", "momentum": 0.9}, {"name": "adamw"}])
def test_a_fused_optimizer_is_the_default_and_takes_the_same_steps(options: dict[str, Any]) -> None:
    def trained(**more: Any) -> tuple[Optimizer, Tensor]:
        torch.manual_seed(0)
        layer = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        settings = Training(optimizer={"lr": 0.05, "weight_decay": 0.01, **options, **more})
        optimizer = build_optimizer(list(layer.named_parameters()), settings)
        images = torch.rand(4, 3, 8, 8)
        for _ in range(5):
            layer(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return optimizer, layer.weight.detach()

    (fused, found), (plain, wanted) = trained(), trained(fused=False)
    assert fused.param_groups[0]["fused"] is True
    assert not plain.param_groups[0]["fused"]
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)
