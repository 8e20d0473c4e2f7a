"""KDCL: one target for all peers, of all their answers and the labels; each sees a view of its own."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hand_made import CLASSES, SAMPLES, batch_of, cross_entropy, divergence, network, numeric, setting_of

from limbeck.data.samples import TensorSamples
from limbeck.data.views import TensorViews
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.objective import Objective, Term
from limbeck.schemes.online.kdcl import KDCL, linear, minlogit, naive
from limbeck.training.runtime import Runtime

Rows = list[list[float]]


def objective() -> Objective:
    return Objective({"cross_entropy": 1.0, "kd": Term(weight=1.0, temperature=2.0)})


def scheme(peers: int, ensemble: str) -> KDCL:
    others = [network(seed) for seed in range(1, peers)]
    return KDCL(
        network(0), objective(), setting_of(others, objective), ensemble=ensemble, views=False
    ).double()


def joined(ensemble: str, answers: list[Rows], target: list[int]) -> Rows:
    """The target of each sample, sought by hand."""
    found = []
    for n, y in enumerate(target):
        rows = [answer[n] for answer in answers]
        if y < 0:
            found.append([sum(row[c] for row in rows) / len(rows) for c in range(CLASSES)])
        elif ensemble == "naive":
            found.append(min(rows, key=lambda row: cross_entropy([row], [y])))
        elif ensemble == "minlogit":
            found.append([min(row[c] - row[y] for row in rows) for c in range(CLASSES)])
        else:
            found.append(_best_mean(rows, y))
    return found


def _best_mean(rows: Rows, y: int) -> list[float]:
    """By trying all weights on a grid that is refined around the best."""
    places = len(rows) - 1
    centre, reach = [1 / len(rows)] * places, 1.0
    for _ in range(28):
        steps = [reach * k / 4 for k in range(-4, 5)]
        grid = [[]]
        for place in range(places):
            grid = [[*head, min(1.0, max(0.0, centre[place] + s))] for head in grid for s in steps]
        tried = [point for point in grid if sum(point) <= 1 + 1e-15]
        centre = min(tried, key=lambda point: cross_entropy([_mean(rows, point)], [y]))
        reach /= 2
    return _mean(rows, centre)


def _mean(rows: Rows, point: list[float]) -> list[float]:
    weights = [*point, 1 - sum(point)]
    return [sum(w * row[c] for w, row in zip(weights, rows, strict=True)) for c in range(CLASSES)]


@pytest.mark.parametrize("peers", [2, 3])
@pytest.mark.parametrize("ensemble", ["naive", "linear", "minlogit"])
def test_value_and_gradient_are_those_of_the_paper(ensemble: str, peers: int) -> None:
    made = scheme(peers, ensemble)
    batch = batch_of(torch.tensor([0, 1, -1, 3, 1]))
    assert batch.target is not None
    target = batch.target.tolist()
    networks = [made.student, *made.peers]
    answers = [peer(batch.input).logits.tolist() for peer in networks]
    fixed = joined(ensemble, answers, target)

    def by_hand() -> float:
        said = [peer(batch.input).logits.tolist() for peer in networks]
        return sum(cross_entropy(rows, target) + divergence(fixed, rows, 2.0) for rows in said)

    loss = made(batch, made.teach(batch))["loss"]
    tolerance = 1e-4 if ensemble == "linear" else 1e-9
    assert loss.item() == pytest.approx(by_hand(), rel=tolerance)
    loss.backward()
    for peer in networks:
        weight = peer.model[2].weight
        torch.testing.assert_close(weight.grad, numeric(by_hand, weight), rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("ensemble", [naive, linear, minlogit])
def test_no_peer_is_nearer_to_the_labels_than_the_target(ensemble: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(3, 40, 6, generator=generator)
    target = torch.randint(6, (40,), generator=generator)
    shares = torch.nn.functional.one_hot(target, 6).float()

    def losses(z: torch.Tensor) -> torch.Tensor:
        return -torch.log_softmax(z, -1).gather(-1, target[:, None])[:, 0]

    best = torch.stack([losses(one) for one in logits]).amin(0)
    assert (losses(ensemble(logits, shares)) <= best + 1e-4).all()


def test_shares_of_mixed_samples_count_as_labels_do() -> None:
    logits = torch.tensor([[[4.0, 0.0, 0.0]], [[2.0, 2.0, 0.0]]])
    mixed = torch.tensor([[0.5, 0.5, 0.0]])
    torch.testing.assert_close(naive(logits, mixed), torch.tensor([[2.0, 2.0, 0.0]]))
    torch.testing.assert_close(minlogit(logits, mixed), torch.tensor([[0.0, -2.0, -2.0]]))
    assert linear(logits, mixed)[0, 0] == pytest.approx(2.0, abs=1e-3)
    made = scheme(2, "minlogit")
    shares = torch.full((SAMPLES, CLASSES), 1 / CLASSES, dtype=torch.float64)
    assert math.isfinite(made(batch_of(shares), None)["loss"].item())


def images() -> TensorSamples:
    generator = torch.Generator().manual_seed(0)
    return TensorSamples(
        targets=torch.arange(12) % CLASSES,
        classes=tuple("abcd"),
        channels=1,
        size=(8, 8),
        images=torch.rand(12, 1, 8, 8, generator=generator),
        views=TensorViews(crop=2, flip=True),
    )


def test_each_peer_sees_a_view_of_its_own_and_always_the_same() -> None:
    samples = images()
    peers = [network(1), network(2)]
    made = KDCL(network(0), objective(), setting_of(peers, objective, samples), views=True)
    made.place(Runtime("cpu"))
    index = np.arange(8, dtype=np.int64)
    batch = samples.take(index, 3, 0)
    seen = made.teach(batch)
    assert seen[0] is batch.input  # as its control sees it
    assert not torch.equal(seen[1], seen[0])
    assert not torch.equal(seen[2], seen[1])
    assert torch.equal(made.teach(batch)[1], seen[1])
    assert not torch.equal(made.teach(samples.take(index, 4, 0))[1], seen[1])
    keys = torch.stack([torch.arange(8), torch.full((8,), 3), torch.arange(8)], dim=1)
    assert torch.equal(made.teach(replace(batch, keys=keys))[1], seen[1])
    half = made.teach(samples.take(index[4:], 3, 0))
    assert torch.equal(half[1], seen[1][4:])  # so several processes see the same


def test_mixed_samples_have_no_other_view() -> None:
    made = KDCL(network(0), objective(), setting_of([network(1)], objective, images()), views=True)
    made.place(Runtime("cpu"))
    batch = images().take(np.arange(4, dtype=np.int64), 0, 0)
    with pytest.raises(InputError, match=r"scheme\.views: the samples of a batch are mixed"):
        made.teach(replace(batch, target=torch.full((4, CLASSES), 0.25)))
    with pytest.raises(InputError, match="does not say which samples it holds"):
        made.teach(Batch(batch.input, batch.target))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": "general"}, "ensemble must be one of naive"),
        ({"views": 1}, "views must be true or false"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KDCL.check(options)
