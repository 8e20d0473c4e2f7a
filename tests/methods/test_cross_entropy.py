"""Class weights: the value by hand, what balanced means, and that parts of a batch add up."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.functional import cross_entropy
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Probe
from limbeck.methods.cross_entropy import CrossEntropy
from limbeck.training.labels import LabelCount
from limbeck.training.runtime import Runtime

LOGITS = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 2, -1, 1, 2])
WEIGHTS = [0.5, 2.0, 1.5]


def by_hand(smoothing: float) -> float:
    total = 0.0
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        if label < 0:
            continue
        norm = math.log(sum(math.exp(z) for z in row))
        for c, z in enumerate(row):
            share = (1 - smoothing) * (c == label) + smoothing / 3
            total -= WEIGHTS[c] * share * (z - norm)
    return total / 4  # the labelled samples, not their weights


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weights_with_class_indices_and_with_shares(smoothing: float) -> None:
    weights = torch.tensor(WEIGHTS)
    found = cross_entropy(LOGITS, LABELS, label_smoothing=smoothing, class_weights=weights)
    assert float(found) == pytest.approx(by_hand(smoothing), rel=1e-5)
    shares = torch.nn.functional.one_hot(LABELS.clamp(min=0), 3).float() * (LABELS >= 0)[:, None]
    again = cross_entropy(LOGITS, shares, label_smoothing=smoothing, class_weights=weights)
    torch.testing.assert_close(again, found)


def set_up(method: CrossEntropy, targets: Tensor | None) -> CrossEntropy:
    answer = Knowledge(torch.zeros(2, 3))
    method.setup(Probe(answer, None, Batch(torch.zeros(2, 1)), classes=3, targets=targets))
    return method


def test_balanced_gives_every_class_the_same_say() -> None:
    targets = torch.tensor([0] * 6 + [1] * 3 + [2] * 1 + [-1] * 5)
    method = set_up(CrossEntropy(class_weights="balanced"), targets)
    assert method.weights is not None
    torch.testing.assert_close(method.weights, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    labelled = targets[targets >= 0]
    assert float(method.weights[labelled].mean()) == pytest.approx(1.0)
    assert method.state_dict() == {}  # so that a state of a run without weights still fits


def test_a_class_without_samples_does_no_harm() -> None:
    method = set_up(CrossEntropy(class_weights="balanced"), torch.tensor([0, 0, 1]))
    assert method.weights is not None
    assert method.weights.tolist() == pytest.approx([0.75, 1.5, 1.0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("even", "balanced"),
        (3, "balanced, or a list"),
        ([1.0, -1.0, 1.0], "class_weights must be a finite number >= 0"),
        ([0.0, 0.0, 0.0], "not all of them 0"),
    ],
)
def test_bad_weights_are_refused(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEntropy(class_weights=given)  # type: ignore[arg-type]


def test_weights_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="one weight for each of 3 classes; got 2"):
        set_up(CrossEntropy(class_weights=[1.0, 1.0]), None)
    with pytest.raises(ValueError, match="needs the label of every training sample"):
        set_up(CrossEntropy(class_weights="balanced"), None)


def test_a_sample_of_unknown_class_counts_by_no_share_of_a_mix() -> None:
    """Mixed with a labelled one, a pair of them holds one label, and the mean is over labels."""
    shares = torch.tensor([[0.7, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 1.0, 0.0]])
    logs = torch.log_softmax(LOGITS[:3], 1)
    expected = -(0.7 * logs[0, 0] + 0.3 * logs[1, 0] + logs[2, 1]) / 2
    torch.testing.assert_close(cross_entropy(LOGITS[:3], shares), expected)
    assert float(cross_entropy(LOGITS[:2], torch.zeros(2, 3))) == 0.0


def test_the_trainer_counts_the_same_over_parts() -> None:
    shares = torch.tensor([[0.7, 0.0, 0.0], [0.0, 0.0, 0.0], [0.3, 0.0, 0.0], [0.0, 1.0, 0.0]])
    whole = cross_entropy(LOGITS[:4], shares)
    parts = [Batch(LOGITS[i : i + 2], shares[i : i + 2]) for i in (0, 2)]
    counted = LabelCount(Runtime("cpu"))(parts)
    losses = [
        cross_entropy(LOGITS[i : i + 2], shares[i : i + 2], labelled=part.labelled)
        for i, part in zip((0, 2), counted, strict=True)
    ]
    torch.testing.assert_close(sum(losses) / 2, whole)
