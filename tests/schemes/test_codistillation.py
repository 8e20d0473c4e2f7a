"""Codistillation: what is heard is some steps old."""

import copy
import math

import pytest
import torch
from hand_made import (
    CLASSES,
    SAMPLES,
    batch_of,
    cross_entropy,
    divergence,
    network,
    numeric,
    setting_of,
    softmax,
)

from limbeck.errors import InputError
from limbeck.objective import Objective
from limbeck.schemes.online.codistillation import Codistillation

KD = {"cross_entropy": 0.5, "kd": 1.0}


def objective() -> Objective:
    return Objective(KD)


def scheme(peers: int = 3, **options: int) -> Codistillation:
    others = [network(seed) for seed in range(1, peers)]
    made = Codistillation(network(0), objective(), setting_of(others, objective), **options)
    for one in made._copies:
        one.network.double()
    return made.double()


def step(made: Codistillation) -> None:
    """All peers change, and the step is over."""
    with torch.no_grad():
        for number, peer in enumerate([made.student, *made.peers]):
            for parameter in peer.parameters():
                parameter.mul_(1 + 0.1 * (number + 1))
    made.after_step()


def test_value_and_gradient_are_those_of_old_copies() -> None:
    made = scheme(exchange=2, burn_in=1)
    step(made)
    old = copy.deepcopy([made.student, *made.peers])  # the copies are taken here
    step(made)
    batch = batch_of()
    assert batch.target is not None
    target = batch.target.tolist()
    networks = [made.student, *made.peers]
    copies = [peer(batch.input).logits.tolist() for peer in old]
    heard = []
    for k in range(3):
        others = [z for m, z in enumerate(copies) if m != k]
        shares = [[softmax(z[n]) for z in others] for n in range(SAMPLES)]
        heard.append([[math.log(sum(p[c] for p in one) / 2) for c in range(CLASSES)] for one in shares])

    def by_hand() -> float:
        said = [peer(batch.input).logits.tolist() for peer in networks]
        # kd at its temperature 4
        return sum(
            0.5 * cross_entropy(own, target) + divergence(goal, own, 4.0)
            for own, goal in zip(said, heard, strict=True)
        )

    losses = made(batch, made.teach(batch))
    assert losses["loss"].item() == pytest.approx(by_hand(), rel=1e-6)  # the mean is taken in float32
    losses["loss"].backward()
    for peer in networks:
        weight = peer.model[2].weight
        torch.testing.assert_close(weight.grad, numeric(by_hand, weight), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "renewed"),
    [
        ({"exchange": 3, "burn_in": 4}, [4, 7, 10]),
        ({"exchange": 3, "burn_in": 0}, [3, 6, 9]),
        ({"exchange": 1, "burn_in": 9}, [9, 10]),
    ],
)
def test_copies_are_renewed_after_the_burn_in_and_then_in_turn(
    options: dict[str, int], renewed: list[int]
) -> None:
    made = scheme(2, **options)
    seen = []
    for number in range(1, 11):
        step(made)
        teaching = made.teach(batch_of())
        assert (teaching is None) == (number < renewed[0])
        now = [peer(batch_of().input).logits for peer in (made.student, *made.peers)]
        if teaching is not None and all(torch.equal(a.logits, b) for a, b in zip(teaching, now, strict=True)):
            seen.append(number)
    assert seen == renewed


def test_until_then_each_peer_learns_from_labels_at_full_weight() -> None:
    made = scheme(2, exchange=5)
    batch = batch_of()
    losses = made(batch, made.teach(batch))
    assert losses["loss"].item() == pytest.approx(
        (losses["cross_entropy"] + losses["peer-2.cross_entropy"]).item()
    )
    assert losses["kd"].item() == losses["peer-2.kd"].item() == 0.0


def test_it_goes_on_from_a_saved_state() -> None:
    one, other = scheme(exchange=3), scheme(exchange=3)
    for _ in range(4):
        step(one)
    other.load_state_dict(one.state_dict())
    other.load_teacher_state({name: value.clone() for name, value in one.teacher_state().items()})
    for made in (one, other):
        for _ in range(3):
            step(made)
    batch = batch_of()
    assert torch.equal(one(batch, one.teach(batch))["loss"], other(batch, other.teach(batch))["loss"])
    assert int(other.teacher_state()["steps"]) == 7


def test_nothing_reaches_the_copies() -> None:
    made = scheme(2, exchange=1)
    step(made)
    batch = batch_of()
    made.train()
    made(batch, made.teach(batch))["loss"].backward()
    assert all(p.grad is None for one in made._copies for p in one.network.parameters())
    assert not any(module.training for one in made._copies for module in one.network.modules())
    assert not any("copies" in name for name in made.state_dict())


def test_it_needs_labels_and_whole_steps() -> None:
    def silent() -> Objective:
        return Objective({"kd": 1.0})

    with pytest.raises(InputError, match="learns from labels alone"):
        Codistillation(network(0), silent(), setting_of([network(1)], silent))
    for option, value in (("exchange", 0), ("exchange", 2.5), ("burn_in", -1)):
        with pytest.raises(ValueError, match=f"{option} must be a whole number"):
            Codistillation.check({option: value})
