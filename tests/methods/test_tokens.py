"""Losses on tokens against slow references, their masks, and what does not belong together."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from slow import agree, draw, softmax
from torch import Tensor

from limbeck import functional, methods
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge

Row = list[float]
STUDENT, TEACHER = draw(2, 3, 4), draw(2, 3, 4, seed=1)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def divergence(of: Row, to: Row) -> float:
    return sum(a * math.log(a / b) for a, b in zip(of, to, strict=True))


def mixed(a: Row, b: Row, share: float) -> Row:
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def jsd(q: Row, p: Row, beta: float) -> float:
    """The student's q and the teacher's p."""
    m = mixed(p, q, beta)
    return beta * divergence(p, m) + (1 - beta) * divergence(q, m)


REFERENCES: list[tuple[str, dict[str, float], Callable[[Row, Row], float]]] = [
    ("token_forward_kl", {}, lambda q, p: divergence(p, q)),
    ("token_reverse_kl", {}, divergence),
    ("token_total_variation", {}, lambda q, p: sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2),
    ("token_skew_kl", {"skew": 0.1}, lambda q, p: divergence(p, mixed(p, q, 0.1))),
    ("token_skew_kl", {"skew": 0.7}, lambda q, p: divergence(p, mixed(p, q, 0.7))),
    ("token_skew_kl", {"skew": 0.0}, lambda q, p: divergence(p, q)),
    ("token_skew_reverse_kl", {"skew": 0.1}, lambda q, p: divergence(q, mixed(q, p, 0.1))),
    ("token_skew_reverse_kl", {"skew": 0.7}, lambda q, p: divergence(q, mixed(q, p, 0.7))),
    ("token_skew_reverse_kl", {"skew": 0.0}, divergence),
    ("token_generalized_jsd", {"beta": 0.5}, partial(jsd, beta=0.5)),
    ("token_generalized_jsd", {"beta": 0.1}, partial(jsd, beta=0.1)),
    ("token_generalized_jsd", {"beta": 0.0}, lambda q, p: divergence(p, q)),
    ("token_generalized_jsd", {"beta": 1.0}, divergence),
]
NAMES = sorted({name for name, _, _ in REFERENCES})


def slow(each: Callable[[Row, Row], float], student: Tensor, mask: Tensor, temperature: float = 1.0) -> float:
    """One token after the other, and the mean over those that count."""
    found = []
    for b in range(2):
        for i in range(3):
            if mask[b, i]:
                q, p = (softmax([v / temperature for v in z[b, i].tolist()]) for z in (student, TEACHER))
                found.append(each(q, p))
    return sum(found) / len(found)


@pytest.mark.parametrize(("name", "options", "each"), REFERENCES, ids=lambda v: str(v) if v else "")
def test_value_and_gradient(name: str, options: dict[str, float], each: Callable[[Row, Row], float]) -> None:
    function = getattr(functional, name)
    agree(lambda z: function(z, TEACHER, MASK, **options), lambda z: slow(each, z, MASK), STUDENT)
    agree(lambda z: function(z, TEACHER, **options), lambda z: slow(each, z, torch.ones_like(MASK)), STUDENT)


def test_generalized_jsd_at_a_temperature() -> None:
    agree(
        lambda z: functional.token_generalized_jsd(z, TEACHER, MASK, temperature=2.0),
        lambda z: slow(partial(jsd, beta=0.5), z, MASK, temperature=2.0),
        STUDENT,
    )


@pytest.mark.parametrize("share", [1e-4, 1 - 1e-4])
def test_generalized_jsd_tends_to_the_two_divergences(share: float) -> None:
    """Divided by β or 1 − β, which is why its ends are what they are."""
    near = functional.token_generalized_jsd(STUDENT, TEACHER, beta=share) / min(share, 1 - share)
    end = functional.token_generalized_jsd(STUDENT, TEACHER, beta=float(round(share)))
    assert near.item() == pytest.approx(end.item(), rel=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_tokens_without_a_mark_do_not_count(name: str, dtype: torch.dtype) -> None:
    function, mask = getattr(functional, name), MASK.to(dtype)
    student = STUDENT.clone().requires_grad_()
    loss = function(student, TEACHER, mask)
    other = torch.where(MASK[..., None] != 0, STUDENT, 50.0 * draw(2, 3, 4, seed=2))
    assert function(other, TEACHER, mask).item() == pytest.approx(loss.item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(loss, student)
    assert ((gradient != 0).any(-1) == (MASK != 0)).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_token_at_all_gives_zero(name: str) -> None:
    student = STUDENT.clone().requires_grad_()
    loss = getattr(functional, name)(student, TEACHER, torch.zeros_like(MASK))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_positions_may_have_any_axes(name: str) -> None:
    function = getattr(functional, name)
    rows = function(STUDENT.flatten(0, 1), TEACHER.flatten(0, 1), MASK.flatten())
    assert rows.item() == pytest.approx(function(STUDENT, TEACHER, MASK).item(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("token_skew_kl", {"skew": 0.1}, -math.log(0.1)),
        ("token_skew_reverse_kl", {"skew": 0.1}, -math.log(0.1)),
        ("token_generalized_jsd", {"beta": 0.5}, math.log(2)),
        ("token_total_variation", {}, 1.0),
    ],
)
def test_answers_with_nothing_in_common_have_a_bounded_loss(
    name: str, options: dict[str, float], most: float
) -> None:
    student, teacher = torch.tensor([[1e4, 0.0, 0.0]]), torch.tensor([[0.0, 1e4, 0.0]])
    assert getattr(functional, name)(student, teacher, **options).item() == pytest.approx(most, rel=1e-6)


LONE = torch.zeros(2)
WHERE: list[tuple[str, Batch, Tensor | None]] = [
    ("attention mask", Batch({"ids": torch.zeros(2, 3), "attention_mask": MASK}), MASK),
    ("mask before labels", Batch({"attention_mask": MASK}, torch.zeros(2, 3, dtype=torch.int64)), MASK),
    ("labels", Batch(LONE, torch.tensor([[5, 0, -1], [2, -1, -1]])), MASK),
    ("labels beside other modalities", Batch({"x": LONE}, torch.tensor([[5, 0, -1], [2, -1, -1]])), MASK),
    ("class shares", Batch(LONE, torch.zeros(2, 3)), None),
    ("labels of sequences", Batch(LONE, torch.tensor([0, -1])), None),
    ("nothing", Batch(LONE), None),
]


@pytest.mark.parametrize(("batch", "mask"), [w[1:] for w in WHERE], ids=[w[0] for w in WHERE])
@pytest.mark.parametrize("name", NAMES)
def test_where_the_method_finds_its_mask(name: str, batch: Batch, mask: Tensor | None) -> None:
    loss = methods.create(name, {})(Knowledge(STUDENT), Knowledge(TEACHER), batch)
    assert loss.item() == getattr(functional, name)(STUDENT, TEACHER, mask).item()


@pytest.mark.parametrize("name", NAMES)
def test_logits_of_whole_sequences_all_count(name: str) -> None:
    student, teacher = STUDENT[:, 0], TEACHER[:, 0]
    batch = Batch({"attention_mask": MASK}, torch.tensor([0, -1]))
    loss = methods.create(name, {})(Knowledge(student), Knowledge(teacher), batch)
    assert loss.item() == getattr(functional, name)(student, teacher).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("student", "teacher", "mask", "message"),
    [
        ((2, 3, 4), (2, 3, 6), None, "one vocabulary; got 4 tokens .* and 6 .*Align the vocabularies"),
        ((2, 3, 4), (2, 5, 4), None, r"same positions; got \[2, 3, 4\] and \[2, 5, 4\]"),
        ((4,), (4,), None, "vocabulary"),
        ((2, 3, 4), (2, 3, 4), (2, 5), r"each position, \[2, 3\]; got \[2, 5\]"),
    ],
)
def test_shapes_that_do_not_belong_together(
    name: str, student: tuple[int, ...], teacher: tuple[int, ...], mask: tuple[int, ...] | None, message: str
) -> None:
    marks = None if mask is None else torch.ones(mask)
    with pytest.raises(ValueError, match=f"{name} needs .*{message}"):
        getattr(functional, name)(torch.zeros(student), torch.zeros(teacher), marks)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("skl", {"skew": 1}, "skew must be a finite number >= 0 and < 1, got 1"),
        ("srkl", {"skew": -0.1}, "skew must be a finite number >= 0 and < 1, got -0.1"),
        ("token_generalized_jsd", {"beta": 1.5}, "beta must be a finite number >= 0 and <= 1, got 1.5"),
        ("token_generalized_jsd", {"beta": -1}, "beta must be a finite number >= 0, got -1"),
        ("token_generalized_jsd", {"temperature": 0}, "temperature must be a finite number > 0, got 0"),
    ],
)
def test_options_out_of_range(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        methods.create(name, values)
