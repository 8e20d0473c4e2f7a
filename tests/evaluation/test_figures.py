"""Further figures by name: their values against sums by hand, and what is refused."""

import math

import pytest
import torch

from limbeck.errors import InputError
from limbeck.evaluation.figures import Figures, names
from limbeck.evaluation.metrics import score

CLASSES = 4
LABELS = torch.tensor([0, 0, 1, 2, 2, 2, 3, 1])
LOGITS = torch.randn(8, CLASSES, generator=torch.Generator().manual_seed(3))


def counts() -> tuple[list[int], list[int], list[int]]:
    """True positives, answers and samples of each class, by loops."""
    named = [max(range(CLASSES), key=lambda c, row=row: float(row[c])) for row in LOGITS]
    right = [sum(1 for a, y in zip(named, LABELS, strict=True) if a == y == c) for c in range(CLASSES)]
    return right, [named.count(c) for c in range(CLASSES)], [int((c == LABELS).sum()) for c in range(CLASSES)]


def test_top_k_counts_the_label_among_the_first() -> None:
    found = Figures({"top2": {}, "second": {"metric": "top3"}}, CLASSES)(LOGITS, LABELS)
    for name, k in (("top2", 2), ("second", 3)):
        order = [sorted(range(CLASSES), key=lambda c, row=row: -float(row[c]))[:k] for row in LOGITS]
        hits = sum(int(y) in top for y, top in zip(LABELS, order, strict=True))
        assert found[name] == pytest.approx(hits / len(LABELS))


def test_f1_precision_and_recall_weigh_all_classes_alike() -> None:
    found = Figures({"f1": {}, "precision": {}, "recall": {}, "balanced_accuracy": {}}, CLASSES)(
        LOGITS, LABELS
    )
    right, named, there = counts()
    precision = [r / n if n else 0.0 for r, n in zip(right, named, strict=True)]
    recall = [r / n for r, n in zip(right, there, strict=True)]
    f1 = [2 * r / (n + t) for r, n, t in zip(right, named, there, strict=True)]
    assert found["f1"] == pytest.approx(sum(f1) / CLASSES)
    assert found["precision"] == pytest.approx(sum(precision) / CLASSES)
    assert found["recall"] == found["balanced_accuracy"] == pytest.approx(sum(recall) / CLASSES)


def test_an_option_reaches_the_metric() -> None:
    found = Figures({"micro": {"metric": "f1", "average": "micro"}}, CLASSES)(LOGITS, LABELS)
    assert found["micro"] == pytest.approx(float((LOGITS.argmax(1) == LABELS).float().mean()))


@pytest.mark.parametrize("name", names())
def test_every_name_gives_one_finite_number(name: str) -> None:
    labels = torch.arange(40) % 6
    logits = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    assert math.isfinite(Figures({name: {}}, 6)(logits, labels)[name])


def test_a_users_own_class_is_found() -> None:
    own = {"brier": {"metric": "torchmetrics.classification:MulticlassHammingDistance"}}
    figures = Figures(own, CLASSES)
    assert figures(LOGITS, LABELS)["brier"] > 0
    assert figures.rising["brier"] is False
    assert figures.rising["loss"] is False
    assert figures.rising["accuracy"] is True


def test_only_labelled_samples_count() -> None:
    targets = torch.cat([LABELS, torch.tensor([-1, -1])])
    logits = torch.cat([LOGITS, torch.zeros(2, CLASSES)])
    figures = Figures({"top2": {}}, CLASSES)
    assert score(logits, targets, figures=figures).metrics == score(LOGITS, LABELS, figures=figures).metrics
    nothing = score(logits[8:], targets[8:], figures=figures)
    assert nothing.figure("top2") is None
    assert nothing.to_json()["metrics"] == {"top2": None}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"f2": {}}, r"metrics\.f2: .*f1"),
        ({"accuracy": {}}, r"metrics\.accuracy: every evaluation has this figure"),
        ({"top9": {}}, r"metrics\.top9: top9 cannot be made for 4 classes"),
        ({"f1": {"averge": "macro"}}, r"metrics\.f1: f1 cannot be made"),
        ({"own": {"metric": "nowhere:Metric"}}, r"metrics\.own: no module"),
    ],
)
def test_bad_names_and_options_are_refused(wanted: dict[str, dict[str, str]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Figures(wanted, CLASSES)


def test_a_figure_of_several_numbers_is_refused() -> None:
    figures = Figures({"f1": {"average": "none"}}, CLASSES)
    with pytest.raises(InputError, match=r"metrics\.f1: must come to one number .* \[4\]"):
        figures(LOGITS, LABELS)
