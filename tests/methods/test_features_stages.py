"""Methods with a stage of their own, and those that go from layer to layer, against slow references."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from slow import agree, draw
from torch import Tensor, nn

from limbeck import functional, methods
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe
from limbeck.methods.factor_transfer import FactorTransfer

Map = list[list[float]]
"""One sample: channels, each a list of its places."""

STAGES = ("activation_boundary", "factor_transfer", "flow_of_solution", "singular_vectors")
EQUAL_WIDTHS = {"student": ((4, 3, 4, 4), (4, 5, 2, 2)), "teacher": ((4, 3, 2, 2), (4, 5, 2, 2))}


def ready(name: str, student: Sequence[Tensor], teacher: Sequence[Tensor], **options: Any) -> Method:
    method = methods.get(name)(**options)
    logits = torch.zeros(len(student[0]), 2)
    method.setup(Probe(Knowledge(logits, tuple(student)), Knowledge(logits, tuple(teacher)), Batch(logits)))
    return method.train()


def call(method: Method, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    logits = torch.zeros(len(student[0]), 2)
    loss: Tensor = method(Knowledge(logits, tuple(student)), Knowledge(logits, tuple(teacher)), Batch(logits))
    return loss


def some(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    return [draw(*shape, seed=seed + i, scale=1.0) for i, shape in enumerate(shapes)]


def slow_pool(feature: Tensor, side: int) -> Tensor:
    """Means of square blocks."""
    block = feature.shape[2] // side
    rows = [
        [
            [
                [
                    sum(sum(row[x * block :][:block]) for row in channel[y * block :][:block]) / block**2
                    for x in range(side)
                ]
                for y in range(side)
            ]
            for channel in sample
        ]
        for sample in feature.tolist()
    ]
    return torch.tensor(rows, dtype=feature.dtype)


def samples(feature: Tensor) -> list[Map]:
    return [[[v for row in channel for v in row] for channel in sample] for sample in feature.tolist()]


def dot(a: list[float], b: list[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


# Activation boundary


def slow_boundary(student: Tensor, teacher: Tensor, margin: float) -> float:
    total = 0.0
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        if t > 0 and s <= margin:
            total += (s - margin) ** 2
        if t <= 0 and s > -margin:
            total += (s + margin) ** 2
    return total / len(student)


@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_activation_boundary(margin: float) -> None:
    teacher = draw(2, 3, 2, 2, seed=1)
    agree(
        lambda x: functional.activation_boundary(x, teacher, margin=margin),
        lambda x: slow_boundary(x, teacher, margin),
        draw(2, 3, 2, 2),
    )


@pytest.mark.parametrize("sides", [(4, 2), (2, 4)])
def test_activation_boundary_pools_the_larger_map(sides: tuple[int, int]) -> None:
    teacher = draw(2, 3, sides[1], sides[1], seed=1)
    agree(
        lambda x: functional.activation_boundary(x, teacher),
        lambda x: slow_boundary(slow_pool(x, 2), slow_pool(teacher, 2), 1.0),
        draw(2, 3, sides[0], sides[0]),
    )


def test_a_teacher_at_zero_is_not_active() -> None:
    """The published form: only what is greater than zero is."""
    x = torch.full((1, 1, 1, 1), 0.25)
    assert functional.activation_boundary(x, torch.zeros_like(x)).item() == 1.25**2
    assert functional.activation_boundary(x, torch.full_like(x, 1e-6)).item() == 0.75**2


def test_activation_boundary_counts_earlier_pairs_half_as_much_each() -> None:
    shapes = [(3, 2, 2, 2), (3, 4, 2, 2), (3, 5, 1, 1)]
    student, teacher = some(*shapes), some(*shapes, seed=5)
    method = ready("ab", student, teacher)
    assert not list(method.parameters()), "equal widths need no connector"
    each = [slow_boundary(s, t, 1.0) for s, t in zip(student, teacher, strict=True)]
    expected = each[0] / 4 + each[1] / 2 + each[2]
    assert call(method, student, teacher).item() == pytest.approx(expected, rel=1e-12)


def test_activation_boundary_brings_widths_together_after_pooling() -> None:
    student, teacher = some((4, 2, 4, 4)), some((4, 3, 2, 2), seed=5)
    method = ready("activation_boundary", student, teacher, margin=0.5)
    conv, norm = method.get_submodule("connectors.0.0"), method.get_submodule("connectors.0.1")
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert conv.bias is None
    weight, pooled = conv.weight.flatten(1).tolist(), slow_pool(student[0], 2)
    mixed = torch.tensor(
        [
            [[dot(row, list(place)) for place in zip(*sample, strict=True)] for row in weight]
            for sample in samples(pooled)
        ],
        dtype=torch.float64,
    )
    centred = mixed - mixed.mean((0, 2), keepdim=True)
    normed = centred / (centred.square().mean((0, 2), keepdim=True) + 1e-5).sqrt()
    expected = slow_boundary(normed, teacher[0], 0.5)
    assert call(method, student, teacher).item() == pytest.approx(expected, rel=1e-9)


# Flow of the solution procedure


def slow_flow(first: Tensor, second: Tensor) -> list[Map]:
    side = min(first.shape[2], second.shape[2])
    ours, theirs = samples(slow_pool(first, side)), samples(slow_pool(second, side))
    return [[[dot(c, d) / side**2 for d in b] for c in a] for a, b in zip(ours, theirs, strict=True)]


def slow_flows(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> float:
    total = 0.0
    for ours, theirs in zip(pairwise(student), pairwise(teacher), strict=True):
        gaps = [
            (p - q) ** 2
            for a, b in zip(slow_flow(*ours), slow_flow(*theirs), strict=True)
            for c, d in zip(a, b, strict=True)
            for p, q in zip(c, d, strict=True)
        ]
        total += sum(gaps) / len(gaps)
    return total


@pytest.mark.parametrize("place", [0, 1, 2])
def test_flow_of_solution_adds_up_the_flows_between_neighbours(place: int) -> None:
    """Sizes differ within a flow in either direction, and between the networks."""
    student = some((2, 2, 4, 4), (2, 3, 2, 2), (2, 2, 4, 4))
    teacher = some((2, 2, 2, 2), (2, 3, 4, 4), (2, 2, 1, 1), seed=5)
    method = ready("fsp", student, teacher)

    def swapped(x: Tensor) -> list[Tensor]:
        return [x if i == place else t for i, t in enumerate(student)]

    agree(
        lambda x: call(method, swapped(x), teacher),
        lambda x: slow_flows(swapped(x), teacher),
        student[place],
    )


def test_flow_of_solution_says_which_widths_differ_and_what_would_do() -> None:
    student, teacher = some((2, 3, 2, 2), (2, 4, 2, 2)), some((2, 3, 2, 2), (2, 6, 2, 2))
    message = "pair 2 has 4 of the student and 6 of the teacher.*equal width.*hint"
    with pytest.raises(ValueError, match=message):
        ready("flow_of_solution", student, teacher)
    with pytest.raises(ValueError, match=message):
        functional.flow_of_solution(*student, *teacher)
    with pytest.raises(ValueError, match="of the same samples"):
        functional.flow_of_solution(student[0], student[1][:1], student[0], student[1])


# Singular vectors


def slow_vectors(sample: Map, count: int) -> tuple[list[float], list[list[float]]]:
    """Squared singular values and right-singular vectors of [places, channels], by Jacobi's rotations."""
    n = len(sample)
    gram = [[dot(a, b) for b in sample] for a in sample]
    basis = [[float(i == j) for j in range(n)] for i in range(n)]
    for _ in range(30):
        for i in range(n):
            for j in range(i + 1, n):
                if gram[i][j] == 0:
                    continue
                angle = math.atan2(2 * gram[i][j], gram[j][j] - gram[i][i]) / 2
                c, s = math.cos(angle), math.sin(angle)
                for rows in (gram, basis):
                    for row in rows:
                        row[i], row[j] = c * row[i] - s * row[j], s * row[i] + c * row[j]
                gram[i], gram[j] = (
                    [c * p - s * q for p, q in zip(gram[i], gram[j], strict=True)],
                    [s * p + c * q for p, q in zip(gram[i], gram[j], strict=True)],
                )
    order = sorted(range(n), key=lambda i: -gram[i][i])[: min(count, len(sample[0]))]
    return [gram[i][i] for i in order], [[row[i] for row in basis] for i in order]


def slow_aligned(student: Map, teacher: Map, count: int) -> tuple[Map, Map]:
    values, theirs = slow_vectors(teacher, count)
    _, candidates = slow_vectors(student, count + 3)
    theirs = [[-v for v in vector] if sum(vector) < 0 else vector for vector in theirs]
    weights = [math.sqrt(value / sum(values)) for value in values]
    ours = []
    for vector in theirs:
        nearest = max(candidates, key=lambda c: abs(dot(c, vector)))
        ours.append([math.copysign(1, dot(nearest, vector)) * v for v in nearest])
    return tuple([[w * v for v in x] for w, x in zip(weights, side, strict=True)] for side in (ours, theirs))


def slow_singular(student: Sequence[Tensor], teacher: Sequence[Tensor], count: int) -> float:
    total = 0.0
    for ours, theirs in zip(
        zip(*map(samples, student), strict=True), zip(*map(samples, teacher), strict=True), strict=True
    ):
        layers = [slow_aligned(a, b, count) for a, b in zip(ours, theirs, strict=True)]
        for (s, t), (s_next, t_next) in pairwise(layers):
            for a, b, c, d in zip(s, s_next, t, t_next, strict=True):
                for i in range(len(a)):
                    for j in range(len(b)):
                        gap = math.exp(-((a[i] - b[j]) ** 2) / 8) - math.exp(-((c[i] - d[j]) ** 2) / 8)
                        total += gap**2
    return total / len(student[0])


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("place", [0, 1, 2], ids=["more places", "more channels", "last"])
def test_singular_vectors(place: int, count: int) -> None:
    student = some((2, 3, 4, 2), (2, 5, 1, 3), (2, 4, 2, 2), seed=20)
    teacher = some((2, 3, 2, 2), (2, 5, 2, 3), (2, 4, 1, 2), seed=30)

    def swapped(x: Tensor) -> list[Tensor]:
        return [x if i == place else t for i, t in enumerate(student)]

    agree(
        lambda x: 100 * functional.singular_vectors(swapped(x), teacher, vectors=count),
        lambda x: 100 * slow_singular(swapped(x), teacher, count),
        student[place],
    )
    found = call(ready("kdsvd", student, teacher, vectors=count), student, teacher).item()
    assert found == pytest.approx(slow_singular(student, teacher, count), rel=1e-12)


def test_singular_vectors_brings_other_widths_to_the_teachers() -> None:
    student, teacher = some((2, 2, 3, 3), (2, 4, 2, 2)), some((2, 3, 2, 2), (2, 4, 2, 2), seed=5)
    method = ready("singular_vectors", student, teacher)
    (weight,) = method.parameters()
    widened = torch.einsum("oc,bchw->bohw", weight[:, :, 0, 0].detach(), student[0])
    expected = slow_singular([widened, student[1]], teacher, 1)
    assert call(method, student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [1, 2])
def test_the_sign_of_a_decomposition_does_not_matter(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    student, teacher = some((2, 3, 2, 2), (2, 5, 1, 3)), some((2, 3, 2, 2), (2, 5, 1, 3), seed=5)
    eigh, call_number = torch.linalg.eigh, 0

    def answer() -> tuple[float, Tensor]:
        x = student[0].clone().requires_grad_()
        loss = functional.singular_vectors([x, student[1]], teacher, vectors=count)
        return loss.item(), torch.autograd.grad(loss, x)[0]

    def other(matrix: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal call_number
        call_number += 1
        values, basis = eigh(matrix)
        signs = draw(len(matrix), 1, basis.shape[2], seed=call_number).sign()
        return values, basis * signs

    loss, gradient = answer()
    monkeypatch.setattr(torch.linalg, "eigh", other)
    for _ in range(4):
        turned, slope = answer()
        assert turned == pytest.approx(loss, rel=1e-12)
        assert torch.allclose(slope, gradient, rtol=1e-9, atol=1e-12)
    assert call_number


def degenerate(name: str) -> Tensor:
    """Maps [2, 4, 3, 3] whose singular values say little."""
    x = draw(2, 4, 3, 3, seed=3).float()
    if name == "zero":
        return torch.zeros_like(x)
    if name == "constant":
        return torch.ones_like(x)
    if name == "one place":
        x[:, :, 1:], x[:, :, :, 1:] = 0, 0
        return x
    if name == "almost one direction":
        return draw(4, 1, 1, seed=4).float() * draw(3, 3, seed=5).float() + 1e-5 * x
    equal = torch.zeros_like(x).flatten(2)
    equal[:, torch.arange(4), torch.arange(4)] = 1.0
    noise = {"equal": 0.0, "almost equal": 1e-7, "close": 1e-5}[name]
    return (equal + noise * x.flatten(2)).reshape_as(x)


@pytest.mark.parametrize("wide", [False, True], ids=["more places", "more channels"])
@pytest.mark.parametrize(
    "name",
    ["zero", "constant", "one place", "almost one direction", "equal", "almost equal", "close"],
)
def test_the_gradient_of_a_decomposition_stays_small(name: str, wide: bool) -> None:
    """Divided by singular values and their differences, it would grow without limit as these vanish."""
    x = degenerate(name)
    if wide:
        x = x.flatten(2).mT.reshape(2, 9, 2, 2)
    x.requires_grad_()
    next_layer, teacher = draw(2, 5, 2, 2).float(), draw(*x.shape, seed=1).float()
    loss = functional.singular_vectors([x, next_layer], [teacher, draw(2, 5, 2, 2, seed=2).float()])
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 100


def test_a_map_of_zeros_of_the_teacher_teaches_nothing() -> None:
    student, teacher = some((2, 3, 2, 2), (2, 5, 1, 3)), some((2, 3, 2, 2), (2, 5, 1, 3), seed=5)
    x = student[0].requires_grad_()
    loss = functional.singular_vectors(student, [torch.zeros_like(t) for t in teacher])
    (gradient,) = torch.autograd.grad(loss, x)
    assert loss.item() == 0
    assert not gradient.any()


def test_a_network_that_diverged_ends_in_no_error_of_the_decomposition() -> None:
    student, teacher = some((2, 3, 2, 2), (2, 5, 1, 3)), some((2, 3, 2, 2), (2, 5, 1, 3), seed=5)
    for value in (math.nan, math.inf):
        student[0][0, 0, 0, 0] = value
        functional.singular_vectors(student, teacher)


def test_singular_vectors_of_any_scale_are_the_same() -> None:
    student, teacher = some((2, 3, 2, 2), (2, 5, 1, 3)), some((2, 3, 2, 2), (2, 5, 1, 3), seed=5)
    student, teacher = ([t.float() for t in side] for side in (student, teacher))
    expected = functional.singular_vectors(student, teacher).item()
    for scale in (1e30, 1e-15):
        x = (scale * student[0]).requires_grad_()
        loss = functional.singular_vectors([x, student[1]], [t / scale for t in teacher])
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_singular_vectors_refuses() -> None:
    x, other = draw(2, 3, 2, 2), draw(2, 4, 2, 2)
    with pytest.raises(ValueError, match=r"as many channels on both sides; got student \[2, 3, 2, 2\]"):
        functional.singular_vectors([x, x], [x, other])
    with pytest.raises(ValueError, match=r"vectors must be no more .*, got 4 for the teacher's \[2, 3, 2, 2"):
        ready("singular_vectors", [x, x], [x, x], vectors=4)
    with pytest.raises(ValueError, match="vectors must be a whole number >= 1"):
        methods.get("singular_vectors")(vectors=0)


@pytest.mark.parametrize("name", ["flow_of_solution", "singular_vectors"])
def test_one_layer_has_no_next_one(name: str) -> None:
    x = draw(2, 3, 2, 2)
    with pytest.raises(ValueError, match=f"{name} compares .* so it needs two .*got 1"):
        ready(name, [x], [x])


# Factor transfer


def slow_factor(feature: Tensor) -> Map:
    rows = []
    for sample in samples(feature):
        row = [sum(v * v for v in place) / len(place) for place in zip(*sample, strict=True)]
        rows.append([v / math.sqrt(dot(row, row)) for v in row])
    return rows


def slow_transfer(student: Tensor, teacher: Tensor, p: float) -> float:
    gaps = [
        abs(a - b) ** p
        for ours, theirs in zip(slow_factor(student), slow_factor(teacher), strict=True)
        for a, b in zip(ours, theirs, strict=True)
    ]
    return sum(gaps) / len(gaps)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("sides", [(2, 2), (4, 2), (2, 4)])
def test_factor_transfer(sides: tuple[int, int], p: float) -> None:
    teacher = draw(3, 5, sides[1], sides[1], seed=1)
    agree(
        lambda x: functional.factor_transfer(x, teacher, p=p),
        lambda x: slow_transfer(slow_pool(x, 2), slow_pool(teacher, 2), p),
        draw(3, 2, sides[0], sides[0]),
    )


def test_factor_transfer_compares_translation_and_factor() -> None:
    student, teacher = some((4, 3, 4, 4)), some((4, 6, 2, 2), seed=5)
    method = ready("ft", student, teacher, p=2.0)
    translator, encoder = method.get_submodule("translator"), method.get_submodule("paraphraser.0")
    with torch.no_grad():
        ours, theirs = translator(student[0]), encoder(teacher[0])
    assert ours.shape == (4, 3, 4, 4)
    assert theirs.shape == (4, 3, 2, 2)
    expected = slow_transfer(slow_pool(ours, 2), theirs, 2.0)
    assert call(method, student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("rate", "channels"), [(0.5, 4), (0.75, 6), (0.01, 1)])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_paraphraser_is_the_papers(rate: float, channels: int, normalize: bool) -> None:
    student, teacher = some((2, 3, 4, 4)), some((2, 8, 4, 4), seed=5)
    method = ready("factor_transfer", student, teacher, rate=rate, normalize=normalize)
    layers = [
        (type(m), m.in_channels, m.out_channels, m.kernel_size, m.bias is None)
        for m in method.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
    ]
    down, up = nn.Conv2d, nn.ConvTranspose2d
    n, size = channels, (3, 3)
    assert layers == [
        *((down, a, b, size, normalize) for a, b in ((8, 8), (8, n), (n, n))),
        *((up, a, b, size, normalize) for a, b in ((n, n), (n, 8), (8, 8))),
        *((down, a, b, size, True) for a, b in ((3, 3), (3, n), (n, n))),
    ]
    assert sum(isinstance(m, nn.LeakyReLU) and m.negative_slope == 0.1 for m in method.modules()) == 9
    assert sum(isinstance(m, nn.BatchNorm2d) for m in method.modules()) == (9 if normalize else 3)


def prepared() -> tuple[FactorTransfer, Knowledge, Batch]:
    """In its first stage, as a run sets it up."""
    student, teacher = some((8, 3, 4, 4)), some((8, 6, 4, 4), seed=5)
    method = ready("factor_transfer", student, teacher)
    assert isinstance(method, FactorTransfer)
    method.preparing = True
    method.prepared.requires_grad_(True)
    method.train()
    logits = torch.zeros(8, 2)
    return method, Knowledge(logits, (teacher[0].requires_grad_(),)), Batch(logits)


def test_prepare_is_the_mean_squared_error_of_what_comes_back() -> None:
    method, teacher, batch = prepared()
    given, back = teacher.features[0], method.paraphraser(teacher.features[0])
    gaps = [(a - b) ** 2 for a, b in zip(given.flatten().tolist(), back.flatten().tolist(), strict=True)]
    assert method.prepare(teacher, batch).item() == pytest.approx(sum(gaps) / len(gaps), rel=1e-12)


def test_prepare_reaches_the_paraphraser_only() -> None:
    method, teacher, batch = prepared()
    method.prepare(teacher, batch).backward()
    for name, parameter in method.named_parameters():
        assert (parameter.grad is not None) == name.startswith("paraphraser."), name
    assert teacher.features[0].grad is None


def test_steps_of_prepare_learn_to_give_the_feature_back() -> None:
    method, teacher, batch = prepared()
    optimizer = torch.optim.Adam(method.prepared.parameters(), lr=0.01)
    errors = []
    for _ in range(60):
        loss = method.prepare(teacher, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.7 * errors[0]


def test_the_paraphraser_stays_as_it_is_once_its_stage_is_over() -> None:
    method, teacher, batch = prepared()
    before = {k: v.clone() for k, v in method.prepared.state_dict().items()}
    method.prepare(teacher, batch)
    after = {k: v.clone() for k, v in method.prepared.state_dict().items()}
    assert any(not torch.equal(before[k], after[k]) for k in before), "the stage moves its statistics"
    method.preparing = False
    method.train()
    student = draw(8, 3, 4, 4)
    call(method, [student], teacher.features).backward()
    assert all(torch.equal(after[k], v) for k, v in method.prepared.state_dict().items())
    assert all(p.grad is None for p in method.prepared.parameters())
    assert all(p.grad is not None for p in method.translator.parameters())


def test_without_its_stage_the_paraphraser_is_fixed_from_the_start() -> None:
    """Even before anyone calls `train`."""
    method = FactorTransfer()
    logits, teacher = torch.zeros(4, 2), draw(4, 6, 2, 2)
    answer = Knowledge(logits, (teacher,))
    method.setup(Probe(answer, answer, Batch(logits)))
    before = {k: v.clone() for k, v in method.prepared.state_dict().items()}
    method(answer, answer, Batch(logits))
    assert all(torch.equal(before[k], v) for k, v in method.prepared.state_dict().items())
    assert not any(p.requires_grad for p in method.prepared.parameters())


@pytest.mark.parametrize("autocast", [False, True])
def test_prepare_in_half_precision_compares_in_single(autocast: bool) -> None:
    method, teacher, batch = prepared()
    method.float()
    half = Knowledge(teacher.logits, (teacher.features[0].detach().bfloat16(),))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = method.prepare(half, batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.prepared.parameters())


def test_factor_transfer_refuses() -> None:
    x, logits = draw(2, 3, 2, 2), torch.zeros(2, 2)
    with pytest.raises(ValueError, match="one pair of features, got 2"):
        ready("factor_transfer", [x, x], [x, x])
    with pytest.raises(ValueError, match="set up for 0 pairs of features; got 1"):
        FactorTransfer().prepare(Knowledge(logits, (x,)), Batch(logits))
    with pytest.raises(ValueError, match="set up for 1 pairs of features; got 2"):
        ready("ft", [x], [x]).prepare(Knowledge(logits, (x, x)), Batch(logits))
    with pytest.raises(ValueError, match="of the same samples"):
        functional.factor_transfer(x, x[:1])
    for option, value in (("rate", 0.0), ("p", 0.5), ("normalize", 1)):
        with pytest.raises(ValueError, match=f"{option} must be"):
            methods.get("factor_transfer")(**{option: value})


# All of them


def equal_widths(name: str) -> tuple[list[Tensor], list[Tensor]]:
    count = 1 if name == "factor_transfer" else 2
    return some(*EQUAL_WIDTHS["student"])[-count:], some(*EQUAL_WIDTHS["teacher"], seed=5)[-count:]


@pytest.mark.parametrize("name", STAGES)
def test_other_features_than_it_was_set_up_for_are_refused(name: str) -> None:
    student, teacher = equal_widths(name)
    vectors = [draw(4, 3) for _ in student]
    with pytest.raises(ValueError, match=rf"{name} needs maps \[B, C, H, W\]; got \[4, 3\]"):
        ready(name, vectors, vectors)
    if name != "flow_of_solution":
        with pytest.raises(ValueError, match=f"set up for {len(student)} pairs of features; got 3"):
            call(ready(name, student, teacher), [student[0]] * 3, [teacher[0]] * 3)


@pytest.mark.parametrize("name", STAGES)
def test_channels_last_maps_give_the_same(name: str) -> None:
    student, teacher = equal_widths(name)
    last = [[t.contiguous(memory_format=torch.channels_last) for t in side] for side in (student, teacher)]
    losses = [call(ready(name, student, teacher), *sides).item() for sides in ((student, teacher), last)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


@pytest.mark.parametrize("name", ["flow_of_solution", "singular_vectors"])
def test_autocast_does_not_touch_the_products(name: str) -> None:
    student, teacher = ([t.float() for t in side] for side in equal_widths(name))
    method = ready(name, student, teacher)
    plain = call(method, student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        assert call(method, student, teacher).item() == plain.item()


def test_activation_boundary_refuses_other_widths_in_its_function() -> None:
    with pytest.raises(ValueError, match=r"one shape; got student \[2, 3, 2, 2\] and teacher \[2, 4, 2, 2\]"):
        functional.activation_boundary(draw(2, 3, 2, 2), draw(2, 4, 2, 2))
    with pytest.raises(ValueError, match="margin must be a finite number > 0"):
        methods.get("activation_boundary")(margin=0.0)


def test_what_each_declares_for_its_stage() -> None:
    """Runs and cards go by it."""
    declared = {n: (methods.get(n).stage, methods.get(n).prefers, methods.get(n).pairs) for n in STAGES}
    assert declared == {
        "activation_boundary": ("alone", "before_relu", "many"),
        "factor_transfer": ("layers", "map", "one"),
        "flow_of_solution": ("alone", "flow", "many"),
        "singular_vectors": ("none", "stages", "many"),
    }
