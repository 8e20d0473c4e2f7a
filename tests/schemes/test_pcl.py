"""PCL: peers hear a classifier of all features, and moving averages of the others' weights."""

import copy

import pytest
import torch
from hand_made import CLASSES, WIDTH, batch_of, cross_entropy, divergence, network, numeric, setting_of

from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.objective import Objective, Term
from limbeck.schemes.online.pcl import PCL

Rows = list[list[float]]


def objective() -> Objective:
    return Objective({"cross_entropy": 0.8, "kd": Term(weight=2.0, temperature=3.0)})


def scheme(decay: float = 0.5) -> PCL:
    peers = [network(1), network(2)]
    made = PCL(network(0), objective(), setting_of(peers, objective), decay=decay, views=False)
    for mean in made._means:
        mean.network.double()
    return made.double()


def moved(made: PCL) -> None:
    """A step, so that averages are no copies of the peers."""
    with torch.no_grad():
        for number, peer in enumerate([made.student, *made.peers]):
            for parameter in peer.parameters():
                parameter.add_(0.1 * (number + 1))
    made.after_step()


def classified(made: PCL, features: list[Rows]) -> Rows:
    """The ensemble's logits, in plain loops."""
    weight, bias = made.classifier.weight.tolist(), made.classifier.bias.tolist()
    joined = [[value for peer in features for value in peer[n]] for n in range(len(features[0]))]
    return [
        [sum(w * h for w, h in zip(row, one, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        for one in joined
    ]


def test_value_and_gradient_are_those_of_the_paper() -> None:
    made = scheme()
    moved(made)
    batch = batch_of()
    assert batch.target is not None
    target = batch.target.tolist()
    networks = [made.student, *made.peers]

    def said() -> tuple[list[Rows], list[Rows]]:
        answers = [peer(batch.input) for peer in networks]
        return [k.logits.tolist() for k in answers], [k.features[0].tolist() for k in answers]

    ensemble = classified(made, said()[1])
    means = [mean.network(batch.input).logits.tolist() for mean in made._means]

    def by_hand() -> float:
        logits, features = said()
        total = 0.8 * cross_entropy(classified(made, features), target)
        for k, own in enumerate(logits):
            total += 0.8 * cross_entropy(own, target) + divergence(ensemble, own, 3.0)
            total += sum(divergence(means[m], own, 3.0) for m in range(3) if m != k) / 2
        return total

    losses = made(batch, made.teach(batch))
    assert losses["loss"].item() == pytest.approx(by_hand(), rel=1e-9)
    losses["loss"].backward()
    for weight in (*(peer.model[0].weight for peer in networks), made.classifier.weight):
        torch.testing.assert_close(weight.grad, numeric(by_hand, weight), rtol=1e-5, atol=1e-8)


def test_a_peer_is_taught_by_averages_of_the_others_weights() -> None:
    made = scheme(decay=0.5)
    before = copy.deepcopy([peer.model[0].weight for peer in (made.student, *made.peers)])
    moved(made)
    share = min(0.5, 2 / 11)
    for mean, old, peer in zip(made._means, before, (made.student, *made.peers), strict=True):
        wanted = share * old + (1 - share) * peer.model[0].weight
        torch.testing.assert_close(mean.network.model[0].weight, wanted)
    teaching = made.teach(batch_of())
    heard, _ = made.advise([teaching[1][0]], batch_of(), teaching)
    assert heard[0][1:] == (teaching[1][1], teaching[1][2])
    assert heard[2][1:] == (teaching[1][0], teaching[1][1])


def test_averages_go_on_from_a_saved_state() -> None:
    one, other = scheme(), scheme()
    moved(one)
    other.load_state_dict(one.state_dict())
    other.load_teacher_state({name: value.clone() for name, value in one.teacher_state().items()})
    moved(one)
    moved(other)
    wanted, found = one.teacher_state(), other.teacher_state()
    assert wanted.keys() == found.keys()
    assert "student/steps" in wanted
    for name, value in wanted.items():
        assert torch.equal(value, found[name]), name


def test_the_ensembles_figures_are_its_classifiers() -> None:
    made = scheme()
    batch = batch_of()
    ensemble = made.further()["ensemble"]
    features = [peer(batch.input).features[0].tolist() for peer in (made.student, *made.peers)]
    torch.testing.assert_close(ensemble(batch.input).logits.tolist(), classified(made, features))
    assert made.classifier.in_features == 3 * WIDTH
    assert made.classifier.out_features == CLASSES
    assert sorted(made.further()) == ["ensemble", "peer-2", "peer-3"]
    assert [name for name, _ in made.parts()["own"]] == ["classifier.weight", "classifier.bias"]


def test_the_ensemble_needs_labels() -> None:
    def silent() -> Objective:
        return Objective({"kd": 1.0})

    with pytest.raises(InputError, match="the ensemble of pcl learns from labels"):
        PCL(network(0), silent(), setting_of([network(1)], silent))
    with pytest.raises(ValueError, match="decay must be"):
        PCL.check({"decay": 1.0})
    assert PCL.together({}) == 3
    made = scheme()
    alone = Batch(batch_of().input, torch.full((5,), -1))
    assert torch.isfinite(made(alone, made.teach(alone))["loss"])
