"""Scores are exact, are held against slow references, and do not depend on the order of reading."""

import json
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limbeck.errors import InputError, WorkError
from limbeck.evaluation.metrics import Evaluation, evaluate, score
from limbeck.knowledge import UNLABELLED, Batch


def said(batch: Batch) -> Tensor:
    """A network that answers with its input."""
    assert isinstance(batch.input, Tensor)
    return batch.input


def make(samples: int = 103, classes: int = 7, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels of which some are unknown, and a teacher's logits."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(samples, classes, generator=generator)
    teacher = logits + torch.randn(samples, classes, generator=generator)
    return logits, torch.randint(UNLABELLED, classes, (samples,), generator=generator), teacher


def batches(logits: Tensor, targets: Tensor, rows: Tensor, size: int = 20) -> list[Batch]:
    return [Batch(logits[part], targets[part], index=part) for part in rows.split(size)]


def softmax(row: list[float]) -> list[float]:
    top = max(row)
    powers = [math.exp(value - top) for value in row]
    return [power / sum(powers) for power in powers]


def reference(logits: Tensor, targets: Tensor, teacher: Tensor) -> dict[str, float]:
    """All scores in plain Python, sample by sample."""
    right = known = same = 0
    loss = kl = 0.0
    bins: dict[int, list[tuple[float, bool]]] = {}
    for row, label, taught in zip(logits.tolist(), targets.tolist(), teacher.tolist(), strict=True):
        shares, wanted = softmax(row), softmax(taught)
        kl += sum(t * math.log(t / s) for s, t in zip(shares, wanted, strict=True))
        same += row.index(max(row)) == taught.index(max(taught))
        if label == UNLABELLED:
            continue
        hit = row.index(max(row)) == label
        known, right, loss = known + 1, right + hit, loss - math.log(shares[label])
        bins.setdefault(math.floor(max(shares) * 15), []).append((max(shares), hit))
    ece = sum(abs(sum(c for c, _ in b) - sum(h for _, h in b)) for b in bins.values()) / known
    return {
        "accuracy": right / known,
        "loss": loss / known,
        "ece": ece,
        "agreement": same / len(logits),
        "kl": kl / len(logits),
    }


def test_every_score_equals_a_slow_reference() -> None:
    logits, targets, teacher = make()
    found, kept = evaluate(
        said, batches(logits, targets, torch.arange(103)), classes=7, teacher_logits=teacher
    )
    wanted = reference(logits, targets, teacher)
    assert found.accuracy == wanted["accuracy"]
    assert found.agreement == wanted["agreement"]
    for name in ("loss", "ece", "kl"):
        assert getattr(found, name) == pytest.approx(wanted[name], rel=1e-5), name
    assert found.samples == 103
    assert torch.equal(kept, logits)


def test_accuracy_is_a_ratio_of_integers_and_classes_add_up_to_it() -> None:
    logits = torch.eye(3)[[0, 0, 1, 2, 2, 2, 2]]
    targets = torch.tensor([0, 1, 1, 2, 2, 0, UNLABELLED])
    found = score(logits, targets)
    assert found.accuracy == 4 / 6
    assert found.per_class == [1 / 2, 1 / 2, 1.0]
    assert found.samples == 7
    assert found.agreement is None
    assert found.kl is None


def test_large_counts_stay_exact_where_float32_would_round() -> None:
    samples = 2**24 // 64 + 3  # enough for a share that float32 cannot hold
    logits = torch.zeros(samples, 2)
    logits[:, 1] = 1
    targets = torch.ones(samples, dtype=torch.int64)
    targets[0] = 0
    found = score(logits, targets)
    assert found.accuracy == (samples - 1) / samples
    assert found.accuracy != float(torch.tensor(found.accuracy, dtype=torch.float32))


def test_the_order_of_reading_does_not_matter_where_samples_carry_an_index() -> None:
    logits, targets, teacher = make()
    shuffled = torch.randperm(103, generator=torch.Generator().manual_seed(1))
    one = evaluate(said, batches(logits, targets, torch.arange(103)), classes=7, teacher_logits=teacher)
    two = evaluate(said, batches(logits, targets, shuffled, 13), classes=7, teacher_logits=teacher)
    assert one[0] == two[0]
    assert torch.equal(one[1], two[1])


@pytest.mark.parametrize("shares", [(60, 43), (103, 0)])
def test_several_processes_count_every_sample_once(shares: tuple[int, int]) -> None:
    """Two processes with unequal parts, one of them even empty, give what one process gives."""
    logits, targets, teacher = make()
    rows = torch.randperm(103, generator=torch.Generator().manual_seed(2))
    parts = [batches(logits, targets, part) if len(part) else [] for part in rows.split(list(shares))]
    alone, whole = evaluate(
        said, batches(logits, targets, torch.arange(103)), classes=7, teacher_logits=teacher
    )
    sent: list[list[Tensor]] = [[], []]  # what each process gives to its gathers, in turn

    def recorder(rank: int) -> Callable[[Tensor], Tensor]:
        def gather(value: Tensor) -> Tensor:
            sent[rank].append(value)
            return value

        return gather

    for rank, part in enumerate(parts):
        if part:
            evaluate(said, part, classes=7, gather=recorder(rank))
        else:
            with pytest.raises(InputError, match="no sample"):  # alone, nothing to score
                evaluate(said, part, classes=7, gather=recorder(rank))
    for part in parts:
        turns = iter(list(zip(*sent, strict=True)))
        found, kept = evaluate(
            said,
            part,
            classes=7,
            teacher_logits=teacher,
            gather=lambda _, turns=turns: torch.cat(next(turns)),
        )
        assert found == alone
        assert torch.equal(kept, whole)


def test_a_sample_that_is_read_twice_is_an_error() -> None:
    logits, targets, _ = make()
    padded = torch.cat([torch.arange(103), torch.tensor([5])])
    with pytest.raises(WorkError, match="sample 5 was counted more than once"):
        evaluate(said, batches(logits, targets, padded), classes=7)


def test_without_any_label_only_the_fidelity_exists_and_json_has_null() -> None:
    logits, _, teacher = make()
    found, _ = evaluate(said, [Batch(logits)], classes=7, teacher_logits=teacher)
    assert math.isnan(found.accuracy)
    assert found.agreement is not None
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["accuracy"] is None
    assert written["loss"] is None
    assert written["ece"] is None
    assert written["per_class"] == [None] * 7
    assert written["agreement"] == found.agreement


def test_json_names_every_field() -> None:
    found = score(*make()[:2])
    assert set(found.to_json()) == set(Evaluation.__dataclass_fields__)


def test_student_equal_to_teacher_agrees_fully_with_no_divergence() -> None:
    logits, targets, _ = make()
    found = score(logits, targets, teacher_logits=logits.clone())
    assert found.agreement == 1.0
    assert found.kl == 0.0


def test_divergence_points_from_the_teacher_to_the_student() -> None:
    """KL(teacher || student) is not symmetric: a teacher of (1/2, 1/2) and a student of (1/4, 3/4)."""
    student, teacher = torch.tensor([[0.25, 0.75]]).log(), torch.tensor([[0.5, 0.5]]).log()
    found = score(student, torch.tensor([0]), teacher_logits=teacher)
    assert found.kl == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), rel=1e-5)


def test_half_precision_answers_are_scored_in_float32_and_no_graph_is_kept() -> None:
    logits, targets, _ = make()
    weight = torch.ones(1, requires_grad=True)
    found, kept = evaluate(
        lambda batch: (said(batch) * weight).bfloat16(), [Batch(logits, targets)], classes=7
    )
    assert kept.dtype == torch.float32
    assert not kept.requires_grad
    assert found.loss == pytest.approx(score(logits, targets).loss, rel=1e-2)


def test_progress_hears_of_every_sample() -> None:
    logits, targets, _ = make()
    heard: list[int] = []
    evaluate(said, batches(logits, targets, torch.arange(103)), classes=7, progress=heard.append)
    assert heard == [20, 20, 20, 20, 20, 3]


def test_bad_input_is_named() -> None:
    logits, targets, teacher = make()
    index = torch.arange(103)
    with pytest.raises(InputError, match="no sample"):
        evaluate(said, [], classes=7)
    with pytest.raises(InputError, match=r"must answer \[103, 5\].*got \[103, 7\]"):
        evaluate(said, [Batch(logits, targets)], classes=5)
    with pytest.raises(InputError, match="not mixed"):
        evaluate(said, [Batch(logits, logits.softmax(1))], classes=7)
    with pytest.raises(InputError, match="some batches carry an index"):
        evaluate(said, [Batch(logits, targets, index), Batch(logits, targets)], classes=7)
    with pytest.raises(InputError, match="same samples and classes"):
        score(logits, targets, teacher_logits=teacher[:50])
    for wrong in (7, -2):
        with pytest.raises(InputError, match="labels must lie in 0 to 6"):
            score(logits, torch.full((103,), wrong))


def test_answers_that_are_not_finite_are_an_error_not_a_score() -> None:
    logits, targets, teacher = make()
    broken = logits.clone()
    broken[3, 1], broken[9, 0] = math.nan, math.inf
    with pytest.raises(WorkError, match="network's answers to 2 of 103"):
        score(broken, targets)
    with pytest.raises(WorkError, match="teacher's answers to 2 of 103"):
        score(teacher, targets, teacher_logits=broken)
