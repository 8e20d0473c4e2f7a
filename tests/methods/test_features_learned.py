"""Methods that compare features behind layers of their own, against slow references with plain numbers."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from slow import agree, draw
from torch import Tensor, nn

from limbeck import functional, methods
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe

Map = list[list[list[list[float]]]]
"""[B][C][H][W]"""
Rows = list[list[float]]

NAMES = ("margin_relu", "review_kd", "masked_generative", "projector_norm")


def size_of(maps: Map) -> tuple[int, int]:
    return len(maps[0][0]), len(maps[0][0][0])


def over(maps: Map, height: int, width: int, value: Callable[[Rows, int, int], float]) -> Map:
    """A map of another size, each of whose values is made of one channel's."""
    return [
        [[[value(plane, i, j) for j in range(width)] for i in range(height)] for plane in sample]
        for sample in maps
    ]


def slow_pool(maps: Map, height: int, width: int) -> Map:
    """Average pooling to a size, by windows that start and end as adaptive ones do."""
    high, wide = size_of(maps)

    def mean(plane: Rows, i: int, j: int) -> float:
        rows = range(i * high // height, -(-(i + 1) * high // height))
        columns = range(j * wide // width, -(-(j + 1) * wide // width))
        return sum(plane[a][b] for a in rows for b in columns) / (len(rows) * len(columns))

    return over(maps, height, width, mean)


def slow_shrink(maps: Map, size: tuple[int, int]) -> Map:
    high, wide = size_of(maps)
    return slow_pool(maps, min(high, size[0]), min(wide, size[1]))


def slow_resize(maps: Map, size: tuple[int, int]) -> Map:
    maps = slow_shrink(maps, size)
    high, wide = size_of(maps)
    return over(maps, *size, lambda plane, i, j: plane[i * high // size[0]][j * wide // size[1]])


def slow_conv(maps: Map, layer: Any) -> Map:
    weight = layer.weight.tolist()
    bias = [0.0] * len(weight) if layer.bias is None else layer.bias.tolist()
    (high, wide), side = size_of(maps), len(weight[0][0])
    reach = (side - 1) // 2

    def at(sample: Rows | Any, o: int, i: int, j: int) -> float:
        total: float = bias[o]
        for c, a, b in itertools.product(range(len(sample)), range(side), range(side)):
            row, column = i + a - reach, j + b - reach
            if 0 <= row < high and 0 <= column < wide:
                total += weight[o][c][a][b] * sample[c][row][column]
        return total

    return [
        [[[at(sample, o, i, j) for j in range(wide)] for i in range(high)] for o in range(len(weight))]
        for sample in maps
    ]


def slow_norm(maps: Map, layer: Any) -> Map:
    """BatchNorm in training."""
    made: Map = [[] for _ in maps]
    for channel, (scale, shift) in enumerate(zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)):
        values = [v for sample in maps for row in sample[channel] for v in row]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values) + layer.eps)
        for sample, new in zip(maps, made, strict=True):
            new.append([[(v - mean) / deviation * scale + shift for v in row] for row in sample[channel]])
    return made


def numbers(maps: Map) -> list[float]:
    return [v for sample in maps for plane in sample for row in plane for v in row]


def knowledge(*features: Tensor) -> Knowledge:
    return Knowledge(torch.zeros(len(features[0]), 2), features)


def ready(
    name: str,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    modules: tuple[nn.Module, ...] = (),
    **options: Any,
) -> Any:
    """The method, set up for these features, every one of its parameters moved off its first value."""
    method = methods.get(name)(**options)
    probe = Probe(
        knowledge(*student),
        knowledge(*teacher),
        Batch(torch.zeros(len(student[0]))),
        teacher_modules=modules,
        generator=torch.Generator().manual_seed(1),
    )
    method.setup(probe)
    with torch.no_grad():
        for seed, parameter in enumerate(method.parameters()):
            parameter.add_(draw(*parameter.shape, seed=100 + seed, scale=0.3))
    return method.train()


def call(method: Method, student: Sequence[Tensor], teacher: Sequence[Tensor], seed: int = 7) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss: Tensor = method(knowledge(*student), knowledge(*teacher), Batch(torch.zeros(len(student[0]))))
    return loss


def swapped(features: Sequence[Tensor], place: int, feature: Tensor) -> list[Tensor]:
    return [feature if i == place else f for i, f in enumerate(features)]


# --- margin_relu


def slow_margin_relu(student: Map, teacher: Map, margin: list[float]) -> float:
    """The paper's three cases: what a ReLU passes, what lies above the margin, what lies below it."""
    size = tuple(min(a, b) for a, b in zip(size_of(student), size_of(teacher), strict=True))
    total = 0.0
    for ours, theirs in zip(slow_shrink(student, size), slow_shrink(teacher, size), strict=True):
        for channel, least in enumerate(margin):
            for s, t in zip(itertools.chain(*ours[channel]), itertools.chain(*theirs[channel]), strict=True):
                if t > 0 or (least < t and s > t):
                    total += (s - t) ** 2
                elif t <= least < s:
                    total += (s - least) ** 2
    return total / len(student)


@pytest.mark.parametrize(("ours", "theirs"), [((4, 4), (4, 4)), ((4, 4), (2, 2)), ((2, 3), (4, 2))], ids=str)
def test_margin_relu(ours: tuple[int, int], theirs: tuple[int, int]) -> None:
    teacher, margin = draw(2, 3, *theirs, seed=1), [-0.9, -0.2, -1.5]
    given = torch.tensor(margin, dtype=torch.float64).reshape(1, 3, 1, 1)
    agree(
        lambda x: functional.margin_relu(x, teacher, given),
        lambda x: slow_margin_relu(x.tolist(), teacher.tolist(), margin),
        draw(2, 3, *ours),
    )


def test_margin_relu_leaves_alone_what_a_relu_makes_zero_of() -> None:
    teacher = torch.tensor([-3.0, -0.5, 0.0]).reshape(1, 1, 1, 3)
    student = torch.tensor([-1.0, -0.5, -2.0]).reshape(1, 1, 1, 3).requires_grad_()
    loss = functional.margin_relu(student, teacher, torch.full((1, 1, 1, 1), -1.0))
    loss.backward()
    assert loss == 0
    assert student.grad is not None
    assert (student.grad == 0).all()


@pytest.mark.parametrize("place", [0, 1])
def test_margin_relu_weighs_each_level_half_of_the_next_deeper_one(place: int) -> None:
    student = [draw(3, 2, 4, 4), draw(3, 3, 2, 2, seed=1)]
    teacher = [draw(3, 3, 2, 2, seed=2), draw(3, 2, 2, 2, seed=3)]
    method = ready("margin_relu", student, teacher)
    margins = [getattr(method, f"margin{level}").flatten().tolist() for level in range(2)]

    def reference(x: Tensor) -> float:
        total = 0.0
        for level, feature in enumerate(swapped(student, place, x)):
            goal = teacher[level].tolist()
            regressed = slow_conv(slow_shrink(feature.tolist(), size_of(goal)), method.regressors[level][0])
            regressed = slow_norm(regressed, method.regressors[level][1])
            total += slow_margin_relu(regressed, goal, margins[level]) / (2, 1)[level]
        return total

    agree(lambda x: call(method, swapped(student, place, x), teacher), reference, student[place])


def gaussian_mean_below_zero(mean: float, deviation: float) -> float:
    """By summing over a fine grid, where anything is below zero."""
    step = deviation / 2000
    share = total = 0.0
    for k in range(20 * 2000):
        x = -(k + 0.5) * step
        density = math.exp(-(((x - mean) / deviation) ** 2) / 2)
        share, total = share + density, total + density * x
    return total / share


def margin_of(module: nn.Module | None, feature: Tensor) -> list[float]:
    method = ready("margin_relu", [feature], [feature], () if module is None else (module,))
    margin: Tensor = method.margin0
    assert margin.shape == (1, feature.shape[1], 1, 1)
    return margin.flatten().tolist()


def batch_norm(weight: list[float], bias: list[float], cls: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> Any:
    norm = cls(len(weight))
    norm.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)}, strict=False)
    return norm


def test_margins_are_the_batch_norms_mean_negative_values() -> None:
    weight, bias = [1.0, -0.5, 2.0, 1.0, 0.7, 0.0, 0.0], [0.0, -1.0, 3.0, 3.2, 2.1, -0.25, 0.25]
    norm, feature = batch_norm(weight, bias), draw(3, 7, 2, 2)
    expected = [gaussian_mean_below_zero(b, abs(w)) for w, b in zip(weight[:3], bias[:3], strict=True)]
    # Of the fourth fewer than one in 1000 are negative, of the fifth more; the last two are constant.
    expected += [-3.0, gaussian_mean_below_zero(2.1, 0.7), -0.25, 0.0]
    assert margin_of(norm, feature) == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert margin_of(nn.Sequential(nn.ReLU(), nn.Sequential(norm)), feature) == margin_of(norm, feature)


class Activated(nn.BatchNorm2d):
    """A BatchNorm with a non-linearity of its own, as some libraries have them."""


@pytest.mark.parametrize(
    "module",
    [
        None,
        nn.ReLU(),
        nn.Sequential(),
        nn.Sequential(nn.BatchNorm2d(2), nn.Identity()),
        nn.BatchNorm2d(3),
        nn.BatchNorm2d(2, affine=False),
        batch_norm([1.0, 1.0], [0.0, 0.0], Activated),
    ],
    ids=["no network", "relu", "empty", "not last", "other width", "no weights", "derived"],
)
def test_margins_are_measured_where_no_batch_norm_gives_the_feature(module: nn.Module | None) -> None:
    feature = torch.tensor([[[1.0, -2.0], [-4.0, 5.0]], [[0.0, 3.0], [0.0, 7.0]]]).transpose(0, 1)
    feature = feature.unsqueeze(-1).double()  # [B, C, H, 1]
    # The channels are [[1, -2], [-4, 5]] and [[0, 3], [0, 7]], of which the second is never negative.
    assert margin_of(module, feature) == [-3.0, 0.0]


def test_margin_relu_refuses_a_teacher_behind_its_relu() -> None:
    student, teacher = draw(2, 3, 2, 2), draw(2, 3, 2, 2).relu()
    with pytest.raises(ValueError, match=r'before the ReLU.*tap the BatchNorm before the ReLU \("layer2'):
        ready("margin_relu", [student, student], [student, teacher])


def test_margin_relu_carries_its_margins_in_its_state() -> None:
    feature = draw(2, 3, 2, 2)
    first, second = ready("ofd", [feature], [feature]), ready("ofd", [feature], [2 * feature])
    assert not torch.equal(first.margin0, second.margin0)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.margin0, second.margin0)


def test_margin_relu_refuses_other_shapes() -> None:
    x, margin = draw(2, 3, 2, 2), torch.zeros(1, 3, 1, 1)
    with pytest.raises(ValueError, match=r"needs maps \[B, C, H, W\]; got \[2, 3\]"):
        functional.margin_relu(draw(2, 3), draw(2, 3), margin)
    with pytest.raises(ValueError, match=r"one shape; got student \[2, 3, 2, 2\] and teacher \[2, 4, 2, 2\]"):
        functional.margin_relu(x, draw(2, 4, 2, 2), margin)
    with pytest.raises(ValueError, match=r"needs a margin \[1, 3, 1, 1\] for these channels; got \[3\]"):
        functional.margin_relu(x, x, torch.zeros(3))


# --- review_kd


def slow_context(student: Map, teacher: Map) -> float:
    def mse(a: Map, b: Map) -> float:
        return sum((p - q) ** 2 for p, q in zip(numbers(a), numbers(b), strict=True)) / len(numbers(a))

    total, weights, weight = mse(student, teacher), 1.0, 1.0
    for k in (4, 2, 1):
        if k < min(size_of(student)):
            weight /= 2
            total += weight * mse(slow_pool(student, k, k), slow_pool(teacher, k, k))
            weights += weight
    return total / weights


@pytest.mark.parametrize("size", [(6, 6), (5, 3), (2, 4), (1, 1), (1, 5)], ids=str)
def test_hierarchical_context(size: tuple[int, int]) -> None:
    teacher = draw(2, 2, *size, seed=1)
    agree(
        lambda x: functional.hierarchical_context(x, teacher),
        lambda x: slow_context(x.tolist(), teacher.tolist()),
        draw(2, 2, *size),
    )


def slow_sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def slow_review(method: Any, student: list[Tensor], teacher: list[Tensor]) -> float:
    levels = [(a.tolist(), b.tolist()) for a, b in zip(student, teacher, strict=True)]
    if method.pooled:
        ours, theirs = (slow_pool(f.clamp(min=0).tolist(), 1, 1) for f in (student[-1], teacher[-1]))
        levels.append((ours, theirs))
    total, left = 0.0, None
    for fusion, (ours, theirs) in zip(method.fusions, reversed(levels), strict=True):
        x = slow_norm(slow_conv(ours, fusion.enter[0]), fusion.enter[1])
        if left is not None:
            left = slow_resize(left, size_of(x))
            both = [a + b for a, b in zip(x, left, strict=True)]
            shares = slow_conv(both, fusion.attention)
            for a, b, (to_a, to_b) in zip(x, left, shares, strict=True):
                for (c, plane), i, j in itertools.product(enumerate(a), *map(range, size_of(x))):
                    plane[i][j] *= slow_sigmoid(to_a[i][j])
                    plane[i][j] += slow_sigmoid(to_b[i][j]) * b[c][i][j]
        left = slow_resize(x, size_of(theirs))
        total += slow_context(slow_norm(slow_conv(left, fusion.leave[0]), fusion.leave[1]), theirs)
    return total


SIZES = {
    "alike": [((4, 4), (4, 4)), ((2, 2), (2, 2))],
    "student smaller": [((2, 2), (4, 4)), ((1, 2), (2, 2))],
    "student larger": [((4, 4), (2, 2)), ((4, 2), (2, 3))],
}


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("pooled", [True, False], ids=["pooled", "plain"])
@pytest.mark.parametrize("sizes", SIZES)
def test_review_kd(sizes: str, pooled: bool, place: int) -> None:
    (ours, theirs), (deep, deeper) = SIZES[sizes]
    student = [draw(3, 2, *ours), draw(3, 3, *deep, seed=1)]
    teacher = [draw(3, 3, *theirs, seed=2), draw(3, 2, *deeper, seed=3)]
    method = ready("review_kd", student, teacher, pooled=pooled, width=2)
    agree(
        lambda x: call(method, swapped(student, place, x), teacher),
        lambda x: slow_review(method, swapped(student, place, x), teacher),
        student[place],
    )


def test_review_kd_is_as_wide_as_the_students_last_map() -> None:
    def width(channels: int, **options: Any) -> int:
        student, teacher = [torch.zeros(2, 3, 1, 1), torch.zeros(2, channels, 1, 1)], [draw(2, 4, 1, 1)] * 2
        method = ready("reviewkd", student, teacher, **options)
        widths = {fusion.enter[0].out_channels for fusion in method.fusions}
        (found,) = widths
        return int(found)

    assert (width(7), width(600), width(7, width=5)) == (7, 512, 5)


def test_review_kd_levels_are_the_pairs_and_the_pooled_last_map() -> None:
    student, teacher = [draw(2, 3, 2, 2)], [draw(2, 4, 2, 2)]
    assert len(ready("review_kd", student, teacher).fusions) == 2
    plain = ready("review_kd", student, teacher, pooled=False)
    assert len(plain.fusions) == 1
    assert plain.fusions[0].attention is None
    with pytest.raises(ValueError, match="set up for 1 pairs of features; got 2"):
        call(plain, student * 2, teacher * 2)


def test_hierarchical_context_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"hierarchical_context needs maps .* got \[2, 3\]"):
        functional.hierarchical_context(draw(2, 3), draw(2, 3))
    with pytest.raises(ValueError, match=r"got student \[2, 3, 2, 2\] and teacher \[2, 3, 4, 4\]"):
        functional.hierarchical_context(draw(2, 3, 2, 2), draw(2, 3, 4, 4))


# --- masked_generative


def slow_generated(maps: Map, kept: Map, generation: Any) -> Map:
    def kept_at(sample: int, c: int, i: int, j: int) -> float:
        mask = kept[sample]
        plane = mask[c if len(mask) > 1 else 0]
        row = plane[i if len(plane) > 1 else 0]
        return float(row[j if len(row) > 1 else 0])

    masked = [
        [
            [[v * kept_at(n, c, i, j) for j, v in enumerate(row)] for i, row in enumerate(plane)]
            for c, plane in enumerate(sample)
        ]
        for n, sample in enumerate(maps)
    ]
    hidden = slow_conv(masked, generation[0])
    hidden = over(hidden, *size_of(hidden), lambda plane, i, j: max(plane[i][j], 0.0))
    return slow_conv(hidden, generation[2])


def squared_sum(a: Map, b: Map) -> float:
    return sum((p - q) ** 2 for p, q in zip(numbers(a), numbers(b), strict=True)) / len(a)


@pytest.mark.parametrize(("mask", "ratio"), [("channels", 0.5), ("positions", 0.4), ("channels", 0.0)])
def test_masked_generative(mask: str, ratio: float) -> None:
    student = [draw(3, 2, 4, 2), draw(3, 3, 2, 2, seed=1)]
    teacher = [draw(3, 3, 2, 2, seed=2), draw(3, 3, 2, 3, seed=3)]
    method = ready("masked_generative", student, teacher, mask=mask, ratio=ratio)
    assert isinstance(method.alignments[1], nn.Identity)  # one width already
    torch.manual_seed(7)
    shapes = [(3, 3, 1, 1), (3, 3, 1, 1)] if mask == "channels" else [(3, 1, 2, 2), (3, 1, 2, 2)]
    kept = [(torch.rand(shape) >= ratio).double().tolist() for shape in shapes]
    assert ratio == 0 or 0 < sum(numbers(kept[0])) < len(numbers(kept[0]))

    def reference(x: Tensor, place: int) -> float:
        total = 0.0
        for level, feature in enumerate(swapped(student, place, x)):
            ours, theirs = feature.tolist(), teacher[level].tolist()
            size = tuple(min(a, b) for a, b in zip(size_of(ours), size_of(theirs), strict=True))
            ours, theirs = slow_shrink(ours, size), slow_shrink(theirs, size)
            aligned = slow_conv(ours, method.alignments[level]) if level == 0 else ours
            total += squared_sum(slow_generated(aligned, kept[level], method.generations[level]), theirs)
        return total

    for place in range(2):
        agree(
            lambda x, place=place: call(method, swapped(student, place, x), teacher),
            lambda x, place=place: reference(x, place),
            student[place],
        )


def test_masked_generative_takes_a_given_mask() -> None:
    student, teacher = draw(2, 2, 2, 2), draw(2, 2, 2, 2, seed=1)
    generation = ready("mgd", [student], [teacher]).generations[0]
    kept = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1).expand(2, 2, 1, 1)
    agree(
        lambda x: functional.masked_generative(x, teacher, kept, generation),
        lambda x: squared_sum(slow_generated(x.tolist(), kept.tolist(), generation), teacher.tolist()),
        student,
    )


@pytest.mark.parametrize("mask", ["channels", "positions"])
def test_masks_cover_their_share_of_channels_or_positions(mask: str) -> None:
    ours = torch.ones(50, 40, 5, 8)
    method = methods.get("masked_generative")(ratio=0.3, mask=mask)
    seen: list[Tensor] = []

    def look(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    method.setup(
        Probe(knowledge(ours), knowledge(ours), Batch(ours), generator=torch.Generator().manual_seed(0))
    )
    method.generations[0].forward = look
    losses = [call(method, [ours], [ours], seed=seed).item() for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    kept = seen[0]
    axes = (2, 3) if mask == "channels" else (1,)
    # One number for all that is masked together, and what is kept is kept as it was.
    assert torch.equal(kept.amin(axes), kept.amax(axes))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert kept.mean().item() == pytest.approx(0.7, abs=0.05)  # five standard deviations of 2000 draws


def test_masked_generative_refuses_other_shapes() -> None:
    x, kept = draw(2, 3, 2, 2), torch.ones(2, 3, 1, 1)
    with pytest.raises(ValueError, match=r"masked_generative needs maps .* got \[2, 3\]"):
        functional.masked_generative(draw(2, 3), draw(2, 3), kept, nn.Identity())
    with pytest.raises(ValueError, match=r"got student \[2, 3, 2, 2\] and teacher \[2, 4, 2, 2\]"):
        functional.masked_generative(x, draw(2, 4, 2, 2), kept, nn.Identity())
    with pytest.raises(ValueError, match=r"got student \[2, 3, 1, 1\] and teacher \[2, 3, 2, 2\]"):
        functional.masked_generative(x, x, kept, nn.AdaptiveAvgPool2d(1))


# --- projector_norm


def slow_projector_norm(student: Rows, teacher: Rows, alpha: float) -> float:
    def normalized(rows: Rows) -> Rows:
        columns = []
        for column in zip(*rows, strict=True):
            mean = sum(column) / len(column)
            variance = sum((v - mean) ** 2 for v in column) / len(column)
            columns.append([(v - mean) / math.sqrt(variance + 1e-4) for v in column])
        return columns

    pairs = zip(itertools.chain(*normalized(student)), itertools.chain(*normalized(teacher)), strict=True)
    return math.log(sum(abs(a - b) ** alpha for a, b in pairs) + 1e-5)


@pytest.mark.parametrize("alpha", [1.0, 2.5, 4.0])
def test_projector_norm(alpha: float) -> None:
    teacher = draw(5, 3, seed=1)
    agree(
        lambda x: functional.projector_norm(x, teacher, alpha=alpha),
        lambda x: slow_projector_norm(x.tolist(), teacher.tolist(), alpha),
        draw(5, 3),
    )


@pytest.mark.parametrize("place", [0, 1, 2])
def test_projector_norm_projects_what_it_averaged(place: int) -> None:
    """Vectors, tokens and maps, and the two sides of another kind."""
    student = [draw(5, 2), draw(5, 3, 2, seed=1), draw(5, 4, 2, 3, seed=2)]
    teacher = [draw(5, 3, 2, 2, seed=3), draw(5, 4, seed=4), draw(5, 2, 6, seed=5)]
    method = ready("srd", student, teacher, alpha=3.0)

    def averaged(feature: Tensor) -> Rows:
        values = feature.tolist()
        if feature.ndim == 4:
            return [[sum(map(sum, plane)) / (len(plane) * len(plane[0])) for plane in s] for s in values]
        if feature.ndim == 3:
            return [[sum(column) / len(s) for column in zip(*s, strict=True)] for s in values]
        return list(values)

    def reference(x: Tensor) -> float:
        total = 0.0
        for layer, ours, theirs in zip(method.projectors, swapped(student, place, x), teacher, strict=True):
            projected = [
                [
                    sum(w * v for w, v in zip(weights, row, strict=True)) + bias
                    for weights, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
                ]
                for row in averaged(ours)
            ]
            total += slow_projector_norm(projected, averaged(theirs), 3.0)
        return total

    agree(lambda x: call(method, swapped(student, place, x), teacher), reference, student[place])


def test_projector_norm_is_finite_where_both_sides_agree() -> None:
    """One sample is nothing but its own mean."""
    for rows in (5, 1):
        student = draw(rows, 3).float().requires_grad_()
        loss = functional.projector_norm(student, 2 * student.detach() if rows == 1 else student.detach())
        loss.backward()
        assert loss.item() == pytest.approx(math.log(1e-5))
        assert student.grad is not None
        assert (student.grad == 0).all()


def test_projector_norm_does_not_see_the_scale_of_a_dimension() -> None:
    student, teacher = 1e3 * draw(6, 4), 1e3 * draw(6, 4, seed=1)
    stretched = student * torch.tensor([1.0, 10.0, 1e3, 1e6]) + 5
    losses = [functional.projector_norm(x, teacher).item() for x in (student, stretched)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_projector_norm_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"one shape \[samples, dimensions\]; got student \[4, 3\]"):
        functional.projector_norm(draw(4, 3), draw(4, 5))
    with pytest.raises(ValueError, match=r"alpha must be a finite number >= 1, got 0\.5"):
        functional.projector_norm(draw(4, 3), draw(4, 3), alpha=0.5)
    with pytest.raises(ValueError, match=r"embeddings \[B, D\], tokens .* got \[4\]"):
        ready("projector_norm", [draw(4)], [draw(4, 3)])


# --- all four


@pytest.mark.parametrize("name", NAMES)
def test_other_features_than_it_was_set_up_for_are_refused(name: str) -> None:
    feature = draw(3, 2, 4, 4)
    with pytest.raises(ValueError, match=f"{name} was set up for 0 pairs of features; got 1"):
        call(methods.get(name)(), [feature], [feature])
    with pytest.raises(ValueError, match=f"{name} was set up for 1 pairs of features; got 2"):
        call(ready(name, [feature], [feature]), [feature, feature], [feature, feature])


@pytest.mark.parametrize("name", NAMES[:3])
def test_setup_refuses_what_is_no_map(name: str) -> None:
    for student, teacher in [(draw(3, 2), draw(3, 2)), (draw(3, 2, 4, 4), draw(3, 5, 2))]:
        with pytest.raises(ValueError, match=rf"{name} needs maps \[B, C, H, W\]; got \[3, "):
            ready(name, [student], [teacher])


@pytest.mark.parametrize("name", NAMES)
def test_the_layout_in_memory_does_not_matter(name: str) -> None:
    student, teacher = draw(3, 2, 4, 4), draw(3, 5, 2, 2, seed=1)
    method = ready(name, [student], [teacher])
    packed = [f.to(memory_format=torch.channels_last).requires_grad_() for f in (student, teacher)]
    expected, found = call(method, [student], [teacher]), call(method, packed[:1], packed[1:])
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert packed[1].grad is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("review_kd", {"pooled": 1}, "pooled must be true or false"),
        ("review_kd", {"width": 0}, "width must be a whole number >= 1"),
        ("masked_generative", {"ratio": 1.0}, "ratio must be a finite number >= 0 and < 1"),
        ("masked_generative", {"mask": "pixels"}, "mask must be one of channels, positions"),
        ("projector_norm", {"alpha": 0.9}, "alpha must be a finite number >= 1"),
    ],
)
def test_options_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        methods.get(name)(**options)
