"""OKDDip: auxiliary peers with targets of their own, and a leader that learns from the mean of them."""

import pytest
import torch
from hand_made import CLASSES, batch_of, cross_entropy, divergence, network, numeric, setting_of, softmax
from torch import nn

from limbeck.errors import InputError
from limbeck.objective import Objective, Term
from limbeck.schemes.online.okddip import OKDDip
from limbeck.taps import Tapped


def objective() -> Objective:
    return Objective({"cross_entropy": 1.0, "kd": Term(weight=0.7, temperature=3.0)})


def scheme(widths: tuple[int, ...]) -> OKDDip:
    peers = [network(seed, width) for seed, width in enumerate(widths, 1)]
    return OKDDip(network(0), objective(), setting_of(peers, objective), factor=1).double()


def weighted(made: OKDDip, widths: tuple[int, ...], features: list, logits: list) -> list:  # type: ignore[type-arg]
    """t_a of each auxiliary peer a, [peers][samples][classes], in plain loops."""
    maps = [
        {w: getattr(made, side)[str(w)].weight.tolist() for w in set(widths)} for side in ("queries", "keys")
    ]

    def image(side: int, peer: int, n: int) -> list[float]:
        return [
            sum(a * b for a, b in zip(row, features[peer][n], strict=True))
            for row in maps[side][widths[peer]]
        ]

    found = []
    for a in range(len(widths)):
        rows = []
        for n in range(len(logits[0])):
            query = image(0, a, n)
            scores = [
                sum(x * y for x, y in zip(query, image(1, b, n), strict=True)) for b in range(len(widths))
            ]
            shares = softmax(scores)
            rows.append(
                [sum(s * z[n][c] for s, z in zip(shares, logits, strict=True)) for c in range(CLASSES)]
            )
        found.append(rows)
    return found


@pytest.mark.parametrize("widths", [(3, 3), (3, 5, 3)], ids=["alike", "unlike"])
def test_value_and_gradient_are_those_of_the_paper(widths: tuple[int, ...]) -> None:
    made = scheme(widths)
    batch = batch_of()
    assert batch.target is not None
    target = batch.target.tolist()
    networks = [made.student, *made.peers]

    def said() -> tuple[list, list]:  # type: ignore[type-arg]
        answers = [peer(batch.input) for peer in networks]
        return [k.logits.tolist() for k in answers], [k.features[0].tolist() for k in answers[1:]]

    logits, features = said()
    personal = weighted(made, widths, features, logits[1:])
    middle = [[sum(z[n][c] for z in logits[1:]) / len(widths) for c in range(CLASSES)] for n in range(5)]
    heard = [middle, *personal]

    def peers_by_hand() -> float:
        """What is heard stays as it was."""
        return sum(
            cross_entropy(own, target) + 0.7 * divergence(goal, own, 3.0)
            for own, goal in zip(said()[0], heard, strict=True)
        )

    def attention_by_hand() -> float:
        """What the peers say stays as it was."""
        goals = weighted(made, widths, features, logits[1:])
        return sum(divergence(goal, own, 3.0) for own, goal in zip(logits[1:], goals, strict=True))

    losses = made(batch, None)
    assert losses["attention"].item() == pytest.approx(attention_by_hand(), rel=1e-9)
    assert losses["loss"].item() == pytest.approx(peers_by_hand() + attention_by_hand(), rel=1e-9)
    losses["loss"].backward()
    for peer in networks:
        weight = peer.model[0].weight
        torch.testing.assert_close(weight.grad, numeric(peers_by_hand, weight), rtol=1e-5, atol=1e-8)
    for maps in (made.queries, made.keys):
        for layer in maps.values():
            found = numeric(attention_by_hand, layer.weight)
            torch.testing.assert_close(layer.weight.grad, found, rtol=1e-5, atol=1e-8)


def test_the_leader_is_the_student_and_no_auxiliary_peer_hears_it() -> None:
    made = scheme((3, 3))
    (leader,) = (one for one in made.lessons() if one.learner == "student" and "labels" not in one.sources)
    assert leader.sources == ("peer-2", "peer-3")
    assert all("student" not in one.sources for one in made.lessons())
    assert OKDDip.together({}) == 4


def test_peers_of_one_width_share_their_maps() -> None:
    made = scheme((3, 5, 3))
    assert sorted(made.queries) == ["3", "5"]
    assert made.queries["3"].weight.shape == (*made.queries["5"].weight.shape[:1], 3)
    assert {name for name, _ in made.parts()["own"]} == {
        f"{side}.{w}.weight" for side in ("queries", "keys") for w in (3, 5)
    }


def test_what_cannot_be_weighed_is_refused() -> None:
    with pytest.raises(InputError, match="needs at least two auxiliary peers"):
        scheme((3,))
    with pytest.raises(InputError, match="the peer-3 does not end in a linear layer"):
        OKDDip(network(0), objective(), setting_of([network(1), Tapped(_Mean(), who="peer-3")], objective))
    with pytest.raises(ValueError, match="temperature must be"):
        OKDDip.check({"temperature": 0})
    with pytest.raises(ValueError, match="factor must be"):
        OKDDip.check({"factor": 0})


class _Mean(nn.Module):
    """No linear layer anywhere."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given[:, :CLASSES]
