"""Losses against slow references, written from the papers with plain numbers: value and gradient."""

import math

import pytest
import torch
from slow import agree, draw, softmax
from torch import Tensor

from limbeck import functional
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Probe
from limbeck.methods.hint import Hint


def slow_cross_entropy(logits: Tensor, rows: list[list[float] | None], smoothing: float) -> float:
    """Equation of label smoothing, one class at a time; None is an unlabelled sample."""
    total, count = 0.0, 0
    for values, shares in zip(logits.tolist(), rows, strict=True):
        if shares is None:
            continue
        count += 1
        p = softmax(values)
        for c, share in enumerate(shares):
            q = (1 - smoothing) * share + smoothing / len(p)
            total -= q * math.log(p[c])
    return total / count if count else 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("target", [[2, 0, 1, 3], [2, -1, 1, -1], [-1, -1, -1, -1]])
def test_cross_entropy_of_class_indices(target: list[int], smoothing: float) -> None:
    rows = [None if t < 0 else [float(c == t) for c in range(5)] for t in target]
    agree(
        lambda z: functional.cross_entropy(z, torch.tensor(target), label_smoothing=smoothing),
        lambda z: slow_cross_entropy(z, rows, smoothing),
        draw(4, 5),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_mixed_targets(smoothing: float) -> None:
    rows = [[0.7, 0.3, 0.0], [0.0, 0.0, 1.0], None, [0.2, 0.4, 0.4]]
    shares = torch.tensor([r or [0.0] * 3 for r in rows], dtype=torch.float64)
    agree(
        lambda z: functional.cross_entropy(z, shares, label_smoothing=smoothing),
        lambda z: slow_cross_entropy(z, rows, smoothing),
        draw(4, 3),
    )


def test_cross_entropy_divides_by_the_given_number_of_labels() -> None:
    logits, target = draw(4, 5), torch.tensor([2, -1, 1, -1])
    counted = functional.cross_entropy(logits, target)
    given = functional.cross_entropy(logits, target, labelled=torch.tensor(0.5))
    assert given.item() == pytest.approx(counted.item() * 2 / 0.5)
    none = functional.cross_entropy(logits, torch.full((4,), -1), labelled=torch.tensor(1e-12))
    assert none.item() == 0


def slow_kd(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total = 0.0
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        p = softmax([v / temperature for v in ours])
        q = softmax([v / temperature for v in theirs])
        total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd(temperature: float) -> None:
    teacher = draw(4, 5, seed=1)
    agree(
        lambda z: functional.kd(z, teacher, temperature=temperature),
        lambda z: slow_kd(z, teacher, temperature),
        draw(4, 5),
    )


def slow_decoupled_kd(student: Tensor, teacher: Tensor, target: list[int], temperature: float) -> float:
    """Equation 7 of the paper with α = 1.5 and β = 8, on probabilities."""
    total, count = 0.0, 0
    for ours, theirs, y in zip(student.tolist(), teacher.tolist(), target, strict=True):
        if y < 0:
            continue
        count += 1
        p, q = (softmax([v / temperature for v in row]) for row in (ours, theirs))
        binary = q[y] * math.log(q[y] / p[y]) + (1 - q[y]) * math.log((1 - q[y]) / (1 - p[y]))
        others = sum(
            q[i] / (1 - q[y]) * math.log((q[i] / (1 - q[y])) / (p[i] / (1 - p[y])))
            for i in range(len(p))
            if i != y
        )
        total += 1.5 * binary + 8 * others
    return temperature**2 * total / count


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("target", [[2, 0, 1, 3], [2, -1, 1, -1]])
def test_decoupled_kd(target: list[int], temperature: float) -> None:
    teacher = draw(4, 5, seed=1)
    agree(
        lambda z: functional.decoupled_kd(
            z, teacher, torch.tensor(target), alpha=1.5, beta=8.0, temperature=temperature
        ),
        lambda z: slow_decoupled_kd(z, teacher, target, temperature),
        draw(4, 5),
    )


def test_decoupled_kd_falls_back_to_kd_with_the_teachers_own_weight() -> None:
    """KD = T² (TCKD + (1 − p_y of the teacher) NCKD): the paper's reformulation, for one sample."""
    student, teacher, target = draw(1, 5), draw(1, 5, seed=1), torch.tensor([2])
    rest = 1 - torch.softmax(teacher / 4, 1)[0, 2].item()
    decoupled = functional.decoupled_kd(student, teacher, target, alpha=1.0, beta=rest, temperature=4.0)
    assert decoupled.item() == pytest.approx(
        functional.kd(student, teacher, temperature=4.0).item(), rel=1e-12
    )


def slow_pool(maps: list[list[float]], size: int) -> list[list[float]]:
    """Mean over equal square blocks."""
    step = len(maps) // size
    return [
        [
            sum(maps[i * step + a][j * step + b] for a in range(step) for b in range(step)) / step**2
            for j in range(size)
        ]
        for i in range(size)
    ]


def slow_hint(
    student: Tensor, teacher: Tensor, weight: list[list[float]], bias: list[float], rectified: bool
) -> float:
    """Pool the larger map, regress each place on its own, square the difference, average over everything."""
    total, count = 0.0, 0
    size = min(student.shape[2], teacher.shape[2])
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        ours, theirs = [slow_pool(m, size) for m in ours], [slow_pool(m, size) for m in theirs]
        for i in range(size):
            for j in range(size):
                for out in range(len(theirs)):
                    value = bias[out] + sum(w * m[i][j] for w, m in zip(weight[out], ours, strict=True))
                    value = max(value, 0.0) if rectified else value
                    total += (value - theirs[out][i][j]) ** 2
                    count += 1
    return total / count


@pytest.mark.parametrize("rectified", [False, True], ids=["linear", "relu"])
@pytest.mark.parametrize(("ours", "theirs"), [(4, 4), (4, 2), (2, 4)], ids=["same", "larger", "smaller"])
def test_hint_of_maps(ours: int, theirs: int, rectified: bool) -> None:
    student, teacher = draw(2, 3, ours, ours), draw(2, 4, theirs, theirs, seed=1)
    teacher = teacher.abs() if rectified else teacher
    method = set_up(Hint(), student, teacher)
    conv = method.get_submodule("regressors.0.0")
    with torch.no_grad():
        conv.bias += 0.3
    weight, bias = conv.weight.detach()[:, :, 0, 0].tolist(), conv.bias.detach().tolist()
    agree(
        lambda x: call(method, x, teacher),
        lambda x: slow_hint(x, teacher, weight, bias, rectified),
        student,
    )


def set_up(method: Hint, student: Tensor, teacher: Tensor) -> Hint:
    batch = Batch(torch.zeros(len(student)))
    logits = torch.zeros(len(student), 2)
    method.setup(Probe(Knowledge(logits, (student,)), Knowledge(logits, (teacher,)), batch))
    return method


def call(method: Hint, student: Tensor, teacher: Tensor) -> Tensor:
    logits = torch.zeros(len(student), 2)
    loss: Tensor = method(
        Knowledge(logits, (student,)), Knowledge(logits, (teacher,)), Batch(torch.zeros(len(student)))
    )
    return loss


@pytest.mark.parametrize("shape", [(6,), (4, 6)], ids=["vectors", "tokens"])
def test_hint_of_vectors_and_tokens(shape: tuple[int, ...]) -> None:
    """A row on its own goes through the linear layer; tokens are rows too."""
    student, teacher = draw(2, *shape), draw(2, *shape[:-1], 5, seed=1)
    method = set_up(Hint(), student, teacher)
    layer = method.get_submodule("regressors.0.0")
    weight = layer.weight.detach().tolist()

    def reference(x: Tensor) -> float:
        rows = zip(x.reshape(-1, 6).tolist(), teacher.reshape(-1, 5).tolist(), strict=True)
        terms = [
            (sum(w * v for w, v in zip(weight[o], row, strict=True)) - goal[o]) ** 2
            for row, goal in rows
            for o in range(5)
        ]
        return sum(terms) / len(terms)

    agree(lambda x: call(method, x, teacher), reference, student)


def test_hint_adds_up_its_pairs() -> None:
    student, teacher = draw(2, 3, 2, 2), draw(2, 4, 2, 2, seed=1)
    one = call(set_up(Hint(), student, teacher), student, teacher)
    other = call(set_up(Hint(), 2 * student, teacher), 2 * student, teacher)
    method, batch, logits = Hint(), Batch(torch.zeros(2)), torch.zeros(2, 2)
    both = (Knowledge(logits, (student, 2 * student)), Knowledge(logits, (teacher, teacher)))
    method.setup(Probe(*both, batch))
    # The second regressor is drawn after the first; give it the first one's weights to compare.
    method.regressors[1].load_state_dict(method.regressors[0].state_dict())
    assert method(*both, batch).item() == pytest.approx((one + other).item(), rel=1e-12)


def test_hint_normalized_is_conv_batch_norm_relu() -> None:
    student, teacher = draw(4, 3, 2, 2), draw(4, 5, 2, 2, seed=1).abs()
    method = set_up(Hint(normalize=True), student, teacher).train()
    conv = method.get_submodule("regressors.0.0")
    mixed = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], student)
    centred = mixed - mixed.mean((0, 2, 3), keepdim=True)
    scaled = centred / ((centred**2).mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
    expected = ((scaled.clamp(min=0) - teacher) ** 2).mean()
    assert call(method, student, teacher).item() == pytest.approx(expected.item(), rel=1e-10)


def test_hint_chooses_the_teachers_non_linearity() -> None:
    student, teacher = draw(4, 3), draw(4, 5, seed=1)
    ends = {
        (choice, sign): type(set_up(Hint(activation=choice), student, signed).regressors[0][-1]).__name__
        for choice in ("auto", "relu", "none")
        for sign, signed in (("signed", teacher), ("positive", teacher.abs()))
    }
    rectified = {key for key, end in ends.items() if end == "ReLU"}
    assert rectified == {("auto", "positive"), ("relu", "signed"), ("relu", "positive")}
