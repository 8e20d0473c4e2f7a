"""Losses on responses against slow references, written from the papers, and their special cases."""

import math
import sys
from collections.abc import Sequence

import pytest
import torch
from slow import agree, draw, softmax
from torch import Tensor

from limbeck import functional, methods
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge

TEACHER = draw(4, 5, seed=1)
LABELS = [[2, 0, 1, 3], [2, -1, 1, -1]]


def shares(logits: Tensor, temperature: float = 1.0) -> list[list[float]]:
    return [softmax([v / temperature for v in row]) for row in logits.tolist()]


def divergence(of: Sequence[float], to: Sequence[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(of, to, strict=True))


def slow_multi_label_kd(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """A coin for each class, on probabilities."""
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        for s, t in zip(ours, theirs, strict=True):
            p, q = (1 / (1 + math.exp(-v / temperature)) for v in (s, t))
            total += divergence([q, 1 - q], [p, 1 - p])
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_of_multi_label_responses(temperature: float) -> None:
    agree(
        lambda z: functional.kd(z, TEACHER, temperature=temperature, multi_label=True),
        lambda z: slow_multi_label_kd(z, TEACHER, temperature),
        draw(4, 5),
    )


def test_a_label_by_itself_is_a_softmax_of_two() -> None:
    student, teacher, none = draw(4, 1), draw(4, 1, seed=1), torch.zeros(4, 1, dtype=torch.float64)
    two = functional.kd(torch.cat([student, none], 1), torch.cat([teacher, none], 1))
    assert functional.kd(student, teacher, multi_label=True).item() == pytest.approx(two.item(), rel=1e-12)


def slow_correlation(a: list[float], b: list[float]) -> float:
    """Pearson's, as in a textbook."""
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread_a, spread_b = sum((x - mean_a) ** 2 for x in a), sum((y - mean_b) ** 2 for y in b)
    return both / math.sqrt(spread_a * spread_b)


def slow_dist(student: Tensor, teacher: Tensor, beta: float, gamma: float, temperature: float) -> float:
    p, q = shares(student, temperature), shares(teacher, temperature)
    rows = [slow_correlation(a, b) for a, b in zip(p, q, strict=True)]
    columns = [slow_correlation([r[c] for r in p], [r[c] for r in q]) for c in range(len(p[0]))]
    inter, intra = 1 - sum(rows) / len(rows), 1 - sum(columns) / len(columns)
    return temperature**2 * (beta * inter + gamma * intra)


@pytest.mark.parametrize(("beta", "gamma", "temperature"), [(1.0, 1.0, 1.0), (2.0, 0.5, 4.0)])
def test_dist(beta: float, gamma: float, temperature: float) -> None:
    agree(
        lambda z: functional.dist(z, TEACHER, beta=beta, gamma=gamma, temperature=temperature),
        lambda z: slow_dist(z, TEACHER, beta, gamma, temperature),
        draw(4, 5),
    )


def test_dist_of_one_sample_has_no_term_between_samples() -> None:
    student = draw(1, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(functional.dist(student, draw(1, 5, seed=1), beta=0.0), student)
    assert functional.dist(student, draw(1, 5, seed=1), beta=0.0).item() == pytest.approx(1)
    assert (gradient == 0).all()


def slow_standardized_kd(student: Tensor, teacher: Tensor, temperature: float) -> float:
    def scores(row: list[float]) -> list[float]:
        mean = sum(row) / len(row)
        spread = math.sqrt(sum((v - mean) ** 2 for v in row) / (len(row) - 1))
        return [(v - mean) / (spread + 1e-7) / temperature for v in row]

    pairs = list(zip(student.tolist(), teacher.tolist(), strict=True))
    total = sum(divergence(softmax(scores(t)), softmax(scores(s))) for s, t in pairs)
    return temperature**2 * total / len(pairs)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_standardized_kd(temperature: float) -> None:
    agree(
        lambda z: functional.standardized_kd(z, TEACHER, temperature=temperature),
        lambda z: slow_standardized_kd(z, TEACHER, temperature),
        draw(4, 5),
    )


def test_standardized_kd_sees_neither_offset_nor_scale() -> None:
    assert functional.standardized_kd(3 * TEACHER + 7, TEACHER).item() == pytest.approx(0, abs=1e-12)
    assert functional.kd(3 * TEACHER + 7, TEACHER).item() > 1


def slow_normalized_kd(student: Tensor, teacher: Tensor, target: list[int], temperature: float) -> float:
    """The paper's loss with γ = 1.5, on probabilities."""
    total, count = 0.0, 0
    for ours, theirs, y in zip(student.tolist(), teacher.tolist(), target, strict=True):
        if y < 0:
            continue
        count += 1
        total -= softmax(theirs)[y] * math.log(softmax(ours)[y])
        p, q = (softmax([v / temperature for v in row]) for row in (ours, theirs))
        for c in range(len(p)):
            if c != y:
                total -= 1.5 * temperature**2 * q[c] / (1 - q[y]) * math.log(p[c] / (1 - p[y]))
    return total / count


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("target", LABELS)
def test_normalized_kd(target: list[int], temperature: float) -> None:
    labels = torch.tensor(target)
    agree(
        lambda z: functional.normalized_kd(z, TEACHER, labels, gamma=1.5, temperature=temperature),
        lambda z: slow_normalized_kd(z, TEACHER, target, temperature),
        draw(4, 5),
    )


def test_normalized_kd_without_the_others_is_weighted_cross_entropy() -> None:
    student, target = draw(1, 5), torch.tensor([2])
    weighted = TEACHER[:1].softmax(1)[0, 2] * functional.cross_entropy(student, target)
    loss = functional.normalized_kd(student, TEACHER[:1], target, gamma=0.0)
    assert loss.item() == pytest.approx(weighted.item(), rel=1e-12)


def slow_gram(rows: list[list[float]]) -> list[list[float]]:
    return [[sum(x * y for x, y in zip(a, b, strict=True)) for b in rows] for a in rows]


def slow_multi_level_kd(student: Tensor, teacher: Tensor, temperatures: Sequence[float]) -> float:
    total = 0.0
    for t in temperatures:
        p, q = shares(student, t), shares(teacher, t)
        total += t**2 * sum(divergence(b, a) for a, b in zip(p, q, strict=True)) / len(p)
        for ours, theirs in (
            (p, q),
            ([*map(list, zip(*p, strict=True))], [*map(list, zip(*q, strict=True))]),
        ):
            a, b = slow_gram(ours), slow_gram(theirs)
            places = [(i, j) for i in range(len(a)) for j in range(len(a))]
            total += sum((b[i][j] - a[i][j]) ** 2 for i, j in places) / len(a)
    return total


@pytest.mark.parametrize("temperatures", [(1.0,), (2.0, 3.0, 4.0, 5.0, 6.0)])
def test_multi_level_kd(temperatures: tuple[float, ...]) -> None:
    agree(
        lambda z: functional.multi_level_kd(z, TEACHER, temperatures=temperatures),
        lambda z: slow_multi_level_kd(z, TEACHER, temperatures),
        draw(4, 5),
    )


def test_multi_level_kd_computes_in_single_precision_under_autocast() -> None:
    student, teacher = draw(4, 5).float(), TEACHER.float()
    plain = functional.multi_level_kd(student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(functional.multi_level_kd(student, teacher), plain)


@pytest.mark.parametrize("outputs", [1, 5])
def test_logits_mse(outputs: int) -> None:
    teacher = draw(4, outputs, seed=1)

    def reference(z: Tensor) -> float:
        pairs = zip(z.flatten().tolist(), teacher.flatten().tolist(), strict=True)
        return sum((a - b) ** 2 for a, b in pairs) / (4 * outputs)

    agree(lambda z: functional.logits_mse(z, teacher), reference, draw(4, outputs))


def slow_cosine(student: Tensor, teacher: Tensor) -> float:
    total = 0.0
    for a, b in zip(student.tolist(), teacher.tolist(), strict=True):
        both = sum(x * y for x, y in zip(a, b, strict=True))
        total += 1 - both / (math.hypot(*a) * math.hypot(*b))
    return total / len(student)


def test_logits_cosine() -> None:
    agree(lambda z: functional.logits_cosine(z, TEACHER), lambda z: slow_cosine(z, TEACHER), draw(4, 5))


def test_logits_cosine_sees_the_direction_only() -> None:
    assert functional.logits_cosine(3 * TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-12)
    assert functional.logits_cosine(-TEACHER, TEACHER).item() == pytest.approx(2)


@pytest.mark.parametrize("target", LABELS)
def test_label_smoothing(target: list[int]) -> None:
    def reference(z: Tensor) -> float:
        total, count = 0.0, 0
        for p, y in zip(shares(z), target, strict=True):
            if y >= 0:
                count += 1
                total -= sum((0.9 * (c == y) + 0.1 / len(p)) * math.log(p[c]) for c in range(len(p)))
        return total / count

    agree(lambda z: functional.label_smoothing(z, torch.tensor(target)), reference, draw(4, 5))


def slow_teacher_free(
    logits: Tensor, rows: list[list[float] | None], confidence: float, temperature: float
) -> float:
    """Each row is the label's shares; None is an unlabelled sample."""
    total, count = 0.0, 0
    for p, row in zip(shares(logits), rows, strict=True):
        if row is None:
            continue
        count += 1
        others = [(1 - confidence) / (len(row) - 1) for _ in row]
        virtual = [y * confidence + (1 - y) * o for y, o in zip(row, others, strict=True)]
        total += divergence(softmax([v / temperature for v in virtual]), p)
    return total / count


@pytest.mark.parametrize(("confidence", "temperature"), [(0.99, 20.0), (0.9, 0.5)])
@pytest.mark.parametrize("target", LABELS)
def test_teacher_free(target: list[int], confidence: float, temperature: float) -> None:
    rows = [None if y < 0 else [float(c == y) for c in range(5)] for y in target]
    labels = torch.tensor(target)
    agree(
        lambda z: functional.teacher_free(z, labels, confidence=confidence, temperature=temperature),
        lambda z: slow_teacher_free(z, rows, confidence, temperature),
        draw(4, 5),
    )


def test_teacher_free_of_mixed_targets() -> None:
    rows = [[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], None, [0.2, 0.4, 0.4]]
    mixed = torch.tensor([r or [0.0] * 3 for r in rows], dtype=torch.float64)
    agree(
        lambda z: functional.teacher_free(z, mixed, temperature=0.5),
        lambda z: slow_teacher_free(z, rows, 0.99, 0.5),
        draw(4, 3),
    )


def test_teacher_free_is_zero_for_the_virtual_teacher_itself() -> None:
    target = torch.tensor([2, 0])
    virtual = torch.full((2, 5), 0.01 / 4, dtype=torch.float64)
    virtual[[0, 1], target] = 0.99
    assert functional.teacher_free(virtual / 20, target).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["normalized_kd", "teacher_free", "label_smoothing"])
def test_the_given_number_of_labels_divides(name: str) -> None:
    function, target = getattr(functional, name), torch.tensor([2, -1, 1, -1])
    arguments = (draw(4, 5), TEACHER, target) if name == "normalized_kd" else (draw(4, 5), target)
    counted, given = function(*arguments), function(*arguments, labelled=torch.tensor(0.5))
    assert given.item() == pytest.approx(counted.item() * 2 / 0.5)


@pytest.mark.parametrize("name", ["dist", "multi_level_kd"])
def test_the_samples_of_all_processes_are_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two processes of two samples each, the method has the value of the four."""
    student = draw(4, 5)
    whole = getattr(functional, name)(student, TEACHER)
    method = methods.create(name, {})
    monkeypatch.setattr(sys.modules[type(method).__module__], "everyones", lambda *mine: (student, TEACHER))
    loss = method(Knowledge(student[:2]), Knowledge(TEACHER[:2]), Batch(torch.zeros(2)))
    assert loss.item() == pytest.approx(whole.item(), rel=1e-12)


@pytest.mark.parametrize(
    "name", ["dist", "standardized_kd", "multi_level_kd", "logits_mse", "logits_cosine", "normalized_kd"]
)
def test_logits_of_other_class_counts_are_refused(name: str) -> None:
    labels = [torch.zeros(4, dtype=torch.int64)] if name == "normalized_kd" else []
    with pytest.raises(ValueError, match=rf"{name} needs .*; got \[4, 5\] and \[4, 6\]"):
        getattr(functional, name)(torch.zeros(4, 5), torch.zeros(4, 6), *labels)


def test_one_class_alone_is_refused() -> None:
    one, labels = torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="standardized_kd needs at least 2 classes"):
        functional.standardized_kd(one, one)
    with pytest.raises(ValueError, match="normalized_kd needs at least 2 classes"):
        functional.normalized_kd(one, one, labels)
    with pytest.raises(ValueError, match="at least 2 classes"):
        functional.teacher_free(one, labels)


@pytest.mark.parametrize("name", ["normalized_kd", "teacher_free", "label_smoothing"])
def test_targets_of_another_batch_are_refused(name: str) -> None:
    logits = torch.zeros(4, 5)
    arguments = (logits, logits) if name == "normalized_kd" else (logits,)
    with pytest.raises(ValueError, match=r"logits \[4, 5\] and targets \[3\]"):
        getattr(functional, name)(*arguments, torch.zeros(3, dtype=torch.int64))


def test_multi_level_kd_needs_a_temperature() -> None:
    with pytest.raises(ValueError, match="at least one temperature"):
        functional.multi_level_kd(TEACHER, TEACHER, temperatures=())


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kd", {"multi_label": 1}, "multi_label must be true or false, got 1"),
        ("dist", {"beta": -1}, "beta must be a finite number >= 0, got -1"),
        ("dist", {"temperature": 0}, "temperature must be a finite number > 0, got 0"),
        ("lskd", {"temperature": -2}, "temperature must be a finite number > 0, got -2"),
        ("nkd", {"gamma": -1}, "gamma must be a finite number >= 0, got -1"),
        ("mlkd", {"temperatures": []}, r"list of numbers > 0, at least one, got \[\]"),
        ("mlkd", {"temperatures": 4}, "list of numbers > 0, at least one, got 4"),
        ("mlkd", {"temperatures": [4, 0]}, "each of temperatures must be a finite number > 0, got 0"),
        ("label_smoothing", {"smoothing": 1}, "smoothing must be a finite number >= 0 and < 1, got 1"),
        ("tf_kd", {"confidence": 1}, "confidence must be a finite number > 0 and < 1, got 1"),
        ("tf_kd", {"temperature": 0}, "temperature must be a finite number > 0, got 0"),
    ],
)
def test_options_out_of_range(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        methods.create(name, values)


@pytest.mark.parametrize("name", ["label_smoothing", "teacher_free"])
def test_the_control_keeps_what_looks_at_labels_only(name: str) -> None:
    assert methods.get(name).kind == "label"
    loss = methods.create(name, {})(
        Knowledge(draw(4, 5)), None, Batch(torch.zeros(4), torch.tensor([2, 0, 1, 3]))
    )
    assert loss.item() > 0
