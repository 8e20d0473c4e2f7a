"""Each weighting gives what its paper says, sample by sample, whatever the labels are like."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.teachers import weightings
from limbeck.teachers.weightings.confidence import confidence_weights
from limbeck.teachers.weightings.entropy import entropy_weights
from limbeck.teachers.weightings.gradient import gradient_weights
from limbeck.teachers.weightings.learned import Learned, ensemble_likelihood
from limbeck.teachers.weightings.min_norm import min_norm

B, K, C = 5, 3, 4


def draw(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    raised = [math.exp((v - max(row)) / temperature) for v in row]
    return [v / sum(raised) for v in raised]


LABELS = torch.tensor([0, 3, -1, 2, 1])
SHARES = torch.tensor(
    [[1.0, 0, 0, 0], [0.25, 0, 0.75, 0], [0.0, 0, 0, 0], [0, 0.5, 0.5, 0], [0.1, 0.2, 0.3, 0.4]]
)
TARGETS = {"labels": LABELS, "shares": SHARES, "none": None}


def as_shares(target: Tensor | None) -> list[list[float]]:
    """Rows of class shares; zeros where nothing is known."""
    if target is None:
        return [[0.0] * C for _ in range(B)]
    if target.ndim == 2:
        return [[float(v) for v in row] for row in target]
    return [[float(c == y) for c in range(C)] for y in target.tolist()]


def slow_confidence(teachers: Tensor, target: Tensor | None) -> list[list[float]]:
    found = []
    for answers, shares in zip(teachers.tolist(), as_shares(target), strict=True):
        if not any(shares):
            found.append([1 / K] * K)
            continue
        costs = [-sum(s * math.log(p) for s, p in zip(shares, softmax(z), strict=True)) for z in answers]
        total = sum(math.exp(c) for c in costs)
        found.append([(1 - math.exp(c) / total) / (K - 1) for c in costs])
    return found


def slow_entropy(teachers: Tensor, temperature: float) -> list[list[float]]:
    found = []
    for answers in teachers.tolist():
        perplexity = [math.exp(-sum(p * math.log(p) for p in softmax(z, temperature))) for z in answers]
        found.append([(1 / p) / sum(1 / q for q in perplexity) for p in perplexity])
    return found


@pytest.mark.parametrize("kind", TARGETS)
def test_confidence_is_by_each_teachers_cross_entropy(kind: str) -> None:
    teachers, target = draw(B, K, C), TARGETS[kind]
    made = weightings.create("confidence", {}, K)
    made.setup(K, C)
    found = made(teachers, None, Batch(torch.zeros(B, 1), target), 4.0)
    torch.testing.assert_close(found, torch.tensor(slow_confidence(teachers, target)), atol=1e-6, rtol=1e-5)


def test_a_teacher_that_is_wrong_loses_all_its_weight() -> None:
    right = torch.tensor([20.0, 0, 0, 0])
    teachers = torch.stack([right, right, -right])[None].expand(2, -1, -1)
    found = confidence_weights(teachers, torch.tensor([0, -1]))
    torch.testing.assert_close(found[0], torch.tensor([0.5, 0.5, 0.0]))
    torch.testing.assert_close(found[1], torch.full((3,), 1 / 3))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_entropy_is_by_the_inverse_of_perplexity(temperature: float) -> None:
    teachers = draw(B, K, C, seed=1)
    found = entropy_weights(teachers, temperature=temperature)
    torch.testing.assert_close(found, torch.tensor(slow_entropy(teachers, temperature)), atol=1e-6, rtol=1e-5)


def solved(gram: np.ndarray[Any, Any], cap: float) -> float:
    """The least wᵀGw, by scipy's solver from several starts."""
    count = len(gram)
    starts = [np.full(count, 1 / count), *(0.9 * row + 0.1 / count for row in np.eye(count))]
    return min(
        float(
            minimize(
                lambda w: w @ gram @ w,
                np.clip(start, 0, cap) / np.clip(start, 0, cap).sum(),
                jac=lambda w: 2 * gram @ w,
                bounds=[(0, cap)] * count,
                constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(count)},
                method="SLSQP",
                options={"ftol": 1e-14, "maxiter": 500},
            ).fun
        )
        for start in starts
    )


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("tolerance", [0.2, 0.4, 0.7, 1.0])
def test_the_min_norm_point_is_that_of_a_general_solver(count: int, tolerance: float) -> None:
    cap = 1 / (tolerance * count)
    for seed in range(12):
        # With fewer dimensions than vectors the matrix is singular, and zero may be within reach.
        vectors = draw(count, 2 + seed % 6, seed=seed) + (seed % 3) * 0.7
        found = min_norm(vectors @ vectors.T, cap)
        assert found.sum().item() == pytest.approx(1)
        assert found.min() >= 0
        assert found.max() <= cap + 1e-12
        length = float((found @ vectors).square().sum())
        scale = float(vectors.square().sum())
        assert length == pytest.approx(solved((vectors @ vectors.T).numpy(), cap), abs=1e-7 * scale)


@pytest.mark.parametrize("cap", [1.0, 0.5])
def test_teachers_that_say_the_same_share_equally(cap: float) -> None:
    one, other = draw(2, 6, seed=3)
    vectors = torch.stack([one, one, other])
    found = min_norm(vectors @ vectors.T, cap)
    assert found[0].item() == pytest.approx(found[1].item(), abs=1e-4)
    torch.testing.assert_close(min_norm(torch.zeros(3, 3), cap), torch.full((3,), 1 / 3, dtype=torch.float64))


def test_gradient_weights_are_those_of_the_losses_at_the_students_logits() -> None:
    teachers, student, temperature = draw(B, K, C, seed=4), draw(B, C, seed=5), 3.0
    slopes = []
    for k in range(K):
        z = student.clone().requires_grad_()
        target = (teachers[:, k] / temperature).softmax(1)
        loss = temperature**2 * (target * (target.log() - (z / temperature).log_softmax(1))).sum() / B
        slopes.append(torch.autograd.grad(loss, z)[0].flatten())
    vectors = torch.stack(slopes)
    found = gradient_weights(teachers, student, temperature=temperature, tolerance=0.5)
    assert torch.equal(found, found[:1].expand(B, -1))
    length = float((found[0].double() @ vectors).square().sum())
    scale = float(vectors.square().sum())
    assert length == pytest.approx(solved((vectors @ vectors.T).numpy(), 1 / (0.5 * K)), abs=1e-6 * scale)
    even = gradient_weights(teachers, student, temperature=temperature, tolerance=1.0)
    torch.testing.assert_close(even, torch.full((B, K), 1 / K))


def slow_likelihood(teachers: Tensor, weights: list[list[float]], target: Tensor | None) -> float:
    total, known = 0.0, 0
    for answers, shares, w in zip(teachers.tolist(), as_shares(target), weights, strict=True):
        said = [softmax(z) for z in answers]
        joint = [sum(w[k] * said[k][c] for k in range(K)) for c in range(C)]
        total -= sum(s * math.log(p) for s, p in zip(shares, joint, strict=True))
        known += any(shares)
    return total / max(1, known)


@pytest.mark.parametrize("kind", ["labels", "shares"])
def test_learned_weights_descend_the_likelihood_of_the_ensemble(kind: str) -> None:
    teachers, student, target = draw(B, K, C, seed=6), draw(B, C, seed=7), TARGETS[kind]
    assert target is not None
    made = Learned()
    made.setup(K, C)
    bias, gate = draw(K, seed=8, scale=0.5), draw(K, C, seed=9, scale=0.5)
    made.bias.data, made.gate.data = bias.float(), gate.float()
    batch = Batch(torch.zeros(B, 1), target)
    weights = made(teachers, student, batch, 4.0)
    loss = made.loss(teachers, weights, batch)
    assert loss is not None
    loss.backward()  # type: ignore[no-untyped-call]

    def reference(bias: Tensor, gate: Tensor) -> float:
        raised = [
            [float(bias[k] + sum(g * p for g, p in zip(gate[k], softmax(z), strict=True))) for k in range(K)]
            for z in student.tolist()
        ]
        return slow_likelihood(teachers, [softmax(row) for row in raised], target)

    assert loss.item() == pytest.approx(reference(bias, gate), rel=1e-5)
    for place in range(K):
        moved = torch.zeros(K, dtype=torch.float64)
        moved[place] = 1e-4
        slope = (reference(bias + moved, gate) - reference(bias - moved, gate)) / 2e-4
        assert made.bias.grad is not None
        assert float(made.bias.grad[place]) == pytest.approx(slope, abs=1e-5)
    moved = torch.zeros(K, C, dtype=torch.float64)
    moved[1, 2] = 1e-4
    slope = (reference(bias, gate + moved) - reference(bias, gate - moved)) / 2e-4
    assert made.gate.grad is not None
    assert float(made.gate.grad[1, 2]) == pytest.approx(slope, abs=1e-5)


def test_without_a_label_nothing_is_learned() -> None:
    made = Learned()
    made.setup(K, C)
    teachers, batch = draw(B, K, C), Batch(torch.zeros(B, 1), torch.full((B,), -1))
    loss = made.loss(teachers, made(teachers, draw(B, C), batch, 1.0), batch)
    assert loss is not None
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert made.bias.grad is not None
    assert not made.bias.grad.any()
    unknown = Batch(torch.zeros(B, 1))
    assert made.loss(teachers, made(teachers, None, unknown, 1.0), unknown) is None


def test_a_teacher_that_says_nothing_true_is_unlearned() -> None:
    target = torch.arange(64) % C
    good = 3.0 * torch.nn.functional.one_hot(target, C)
    teachers = torch.stack([good, draw(64, C, seed=1).float(), -good], 1)
    made = Learned()
    made.setup(K, C)
    batch, student = Batch(torch.zeros(64, 1), target), torch.zeros(64, C)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        loss = made.loss(teachers, made(teachers, student, batch, 1.0), batch)
        assert loss is not None
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    weights = made(teachers, student, batch, 1.0)[0]
    assert weights[0] > 0.9 > 0.1 > weights[2]


@pytest.mark.parametrize("name", weightings.KINDS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("asked", [True, False])
def test_rows_sum_to_one_whatever_is_known(name: str, kind: str, dtype: torch.dtype, asked: bool) -> None:
    teachers = draw(B, K, C, scale=30).to(dtype)
    made = weightings.create(name, {}, K)
    made.setup(K, C)
    student = draw(B, C, seed=1).to(dtype) if asked else None
    found = made(teachers, student, Batch(torch.zeros(B, 1), TARGETS[kind]), 4.0)
    assert found.shape == (B, K)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    torch.testing.assert_close(found.sum(1), torch.ones(B))


@pytest.mark.parametrize("name", weightings.KINDS)
def test_each_compiles_in_one_graph(name: str) -> None:
    teachers, student, target = draw(B, K, C).float(), draw(B, C, seed=1).float(), LABELS
    made = weightings.create(name, {}, K)
    made.setup(K, C)

    def weigh(teachers: Tensor, student: Tensor, target: Tensor) -> Tensor:
        found: Tensor = made(teachers, student, Batch(teachers, target), 4.0)
        return found

    compiled = torch.compile(weigh, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(teachers, student, target), weigh(teachers, student, target))


def test_numbers_are_shares_of_their_sum() -> None:
    made = weightings.create("average", {"weights": [2, 1, 1]}, K)
    made.setup(K, C)
    found = made(draw(B, K, C), None, Batch(torch.zeros(B, 1)), 1.0)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.25, 0.25]]).expand(B, -1))
    assert not list(made.parameters())
    assert not made.state_dict()


@pytest.mark.parametrize(
    ("name", "options", "teachers", "parts"),
    [
        ("confidense", {}, 3, ['unknown weighting "confidense"', 'Did you mean "confidence"']),
        ("confidence", {"temperature": 2}, 3, ['unknown option of confidence "temperature"']),
        ("entropy", {"temprature": 2}, 3, ['Did you mean "temperature"']),
        ("entropy", {"temperature": 0}, 3, ["temperature must be a finite number > 0, got 0"]),
        ("average", {"weights": [1, 2]}, 3, ["one for each of 3 teachers, got 2"]),
        ("average", {"weights": [0, 0, 0]}, 3, ["must not all be 0"]),
        ("average", {"weights": [1, -1, 0]}, 3, ["weights must be a finite number >= 0, got -1"]),
        ("average", {"weights": "all"}, 3, ["must be a list of one number for each teacher"]),
        ("gradient", {"tolerance": 1.5}, 3, ["tolerance must be a number in (0, 1], got 1.5"]),
        ("gradient", {}, 7, ["gradient is for 6 teachers at most; there are 7"]),
    ],
)
def test_what_cannot_work_is_said(
    name: str, options: dict[str, Any], teachers: int, parts: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        weightings.create(name, options, teachers)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_the_likelihood_divides_by_the_labels_of_the_whole_batch() -> None:
    teachers, weights = draw(B, K, C).float(), torch.full((B, K), 1 / K)
    whole = ensemble_likelihood(teachers, weights, LABELS)
    part = ensemble_likelihood(teachers, weights, LABELS, torch.tensor(8.0))
    torch.testing.assert_close(part, whole * 4 / 8)
