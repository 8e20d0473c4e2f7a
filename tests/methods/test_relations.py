"""Methods that compare the samples of a batch, against slow references with plain numbers."""

import itertools
import math
from typing import Any

import pytest
import torch
from slow import agree, draw
from torch import Tensor
from torch.nn import functional as F

from limbeck import functional, methods
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods import testing
from limbeck.methods.base import Method, Probe
from limbeck.methods.testing import Subject

Rows = list[list[float]]

PLAIN = ("probabilistic_transfer", "relational", "relational_angle", "relational_distance")
SCALELESS = ("relational", "relational_angle", "relational_distance", "similarity_preserving")
ALL = sorted({*PLAIN, *SCALELESS, "correlation_congruence"})


def huber(x: float) -> float:
    return x * x / 2 if abs(x) < 1 else abs(x) - 0.5


def far(a: list[float], b: list[float]) -> float:
    return math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))


def dot(a: list[float], b: list[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def slow_distance(student: Tensor, teacher: Tensor) -> float:
    ours, theirs = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    n = len(ours)
    pairs = list(itertools.permutations(range(n), 2))
    mine, their = (sum(far(x[i], x[j]) for i, j in pairs) / len(pairs) for x in (ours, theirs))
    return (
        sum(huber(far(ours[i], ours[j]) / mine - far(theirs[i], theirs[j]) / their) for i, j in pairs) / n**2
    )


def slow_cosine(rows: Rows, i: int, j: int, k: int) -> float:
    """Of the angle at sample i between samples j and k."""
    if i in (j, k):
        return 0.0
    to_j, to_k = ([p - q for p, q in zip(rows[other], rows[i], strict=True)] for other in (j, k))
    return dot(to_j, to_k) / math.sqrt(dot(to_j, to_j) * dot(to_k, to_k))


def slow_angle(student: Tensor, teacher: Tensor) -> float:
    ours, theirs = student.flatten(1).tolist(), teacher.flatten(1).tolist()
    n = len(ours)
    triples = itertools.product(range(n), repeat=3)
    return sum(huber(slow_cosine(ours, *t) - slow_cosine(theirs, *t)) for t in triples) / n**3


def slow_similarities(rows: Rows) -> Rows:
    gram = [[dot(a, b) for b in rows] for a in rows]
    return [[v / math.sqrt(dot(row, row)) for v in row] for row in gram]


def slow_similarity(student: Tensor, teacher: Tensor) -> float:
    ours, theirs = (slow_similarities(x.flatten(1).tolist()) for x in (student, teacher))
    return sum(far(a, b) ** 2 for a, b in zip(ours, theirs, strict=True)) / len(ours) ** 2


def slow_neighbours(rows: Rows) -> Rows:
    lengths = [math.sqrt(dot(row, row)) + 1e-7 for row in rows]
    kernel = [
        [(dot(a, b) / (la * lb) + 1) / 2 for b, lb in zip(rows, lengths, strict=True)]
        for a, la in zip(rows, lengths, strict=True)
    ]
    return [[v / sum(row) for v in row] for row in kernel]


def slow_probabilistic(student: Tensor, teacher: Tensor) -> float:
    ours, theirs = (slow_neighbours(x.flatten(1).tolist()) for x in (student, teacher))
    terms = [
        q * math.log((q + 1e-7) / (p + 1e-7))
        for a, b in zip(ours, theirs, strict=True)
        for p, q in zip(a, b, strict=True)
    ]
    return sum(terms) / len(terms)


def slow_congruence(student: Tensor, teacher: Tensor, pairs: list[tuple[int, int]]) -> float:
    errors = [
        [abs(p - q) for p, q in zip(a, b, strict=True)]
        for a, b in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    return sum(dot(errors[i], errors[j]) for i, j in pairs) / len(pairs)


REFERENCES = {
    "relational_distance": slow_distance,
    "relational_angle": slow_angle,
    "relational": lambda s, t: 25 * slow_distance(s, t) + 50 * slow_angle(s, t),
    "similarity_preserving": slow_similarity,
    "probabilistic_transfer": slow_probabilistic,
}


@pytest.mark.parametrize("shapes", [((5, 3), (5, 4)), ((4, 2, 1, 2), (4, 3, 2))], ids=["vectors", "maps"])
@pytest.mark.parametrize("name", REFERENCES)
def test_value_and_gradient(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    teacher = draw(*shapes[1], seed=1)
    agree(
        lambda x: getattr(functional, name)(x, teacher),
        lambda x: REFERENCES[name](x, teacher),
        draw(*shapes[0]),
    )


@pytest.mark.parametrize(
    ("compare", "pairs"),
    [("neighbours", [(0, 1), (1, 2), (2, 3)]), ("all", list(itertools.permutations(range(4), 2)))],
)
def test_correlation_congruence(compare: str, pairs: list[tuple[int, int]]) -> None:
    teacher = draw(4, 3, seed=1)
    agree(
        lambda x: functional.correlation_congruence(x, teacher, compare=compare),
        lambda x: slow_congruence(x, teacher, pairs),
        draw(4, 3),
    )


def test_correlation_congruence_of_all_pairs_is_the_mean_over_all_orders_of_the_batch() -> None:
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    orders = [list(order) for order in itertools.permutations(range(4))]
    each = [functional.correlation_congruence(student[o], teacher[o]) for o in orders]
    every = functional.correlation_congruence(student, teacher, compare="all")
    assert every.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-12)


def test_correlation_congruence_embeds_both_sides() -> None:
    student, teacher = draw(4, 3, 2, 2), draw(4, 5, seed=1)
    method = ready("correlation_congruence", (student,), (teacher,), dimension=6)
    ours, theirs = method.get_submodule("ours.0"), method.get_submodule("theirs.0")
    expected = functional.correlation_congruence(ours(student.flatten(1)), theirs(teacher), compare="all")
    assert ours.weight.shape == (6, 12)
    assert theirs.weight.shape == (6, 5)
    assert call(method, (student,), (teacher,)).item() == pytest.approx(expected.item(), rel=1e-12)


def test_correlation_congruence_of_neighbours_depends_on_the_order_only() -> None:
    """It is the authors' form, as its docstring says."""
    subject = Subject(methods.get("correlation_congruence"), {"compare": "neighbours"})
    for check in (testing.finite, testing.teaches_the_student_only, testing.repeats_by_seed):
        check(subject)
    with pytest.raises(AssertionError, match="order of the samples changes the loss"):
        testing.same_in_any_order(subject)


def slow_edges(layer: Tensor) -> Rows:
    rows = layer.flatten(1).tolist()
    edges = [[far(a, b) ** 2 for b in rows] for a in rows]
    largest = max(map(max, edges))
    return [[v / largest for v in row] for row in edges]


def slow_moves(layer: Tensor, following: Tensor) -> list[float]:
    """From [B, C, 2, 2] to [B, 2 C, 1, 1]: means over places here, over pairs of channels there."""
    one = [[sum(map(sum, channel)) / 4 for channel in sample] for sample in layer.tolist()]
    other = [
        [(sample[c][0][0] + sample[c + 1][0][0]) / 2 for c in range(0, len(sample), 2)]
        for sample in following.tolist()
    ]
    moves = [far(a, b) ** 2 for a, b in zip(one, other, strict=True)]
    return [v / max(moves) for v in moves]


def slow_graph(logits: tuple[Tensor, Tensor], ours: list[Tensor], theirs: list[Tensor]) -> float:
    def mse(a: list[float], b: list[float]) -> float:
        return far(a, b) ** 2 / len(a)

    def flat(rows: Rows) -> list[float]:
        return [v for row in rows for v in row]

    edges = [[flat(slow_edges(layer)) for layer in layers] for layers in (ours, theirs)]
    changes = [[(a - b) ** 2 for a, b in zip(*one, strict=True)] for one in edges]
    vertices = mse(*(flat(z.tolist()) for z in logits))
    distances = sum(mse(a, b) for a, b in zip(*edges, strict=True)) / 2
    moved = mse(slow_moves(*ours), slow_moves(*theirs))
    return 0.3 * vertices + 2 * distances + 7 * (moved + mse(*changes))


@pytest.mark.parametrize("place", [0, 1, 2], ids=["logits", "first layer", "second layer"])
def test_instance_graph(place: int) -> None:
    student = [draw(4, 5), draw(4, 2, 2, 2, seed=1), draw(4, 4, 1, 1, seed=2)]
    teacher = [draw(4, 5, seed=3), draw(4, 3, 2, 2, seed=4), draw(4, 6, 1, 1, seed=5)]

    def swapped(x: Tensor) -> list[Tensor]:
        return [x if i == place else t for i, t in enumerate(student)]

    agree(
        lambda x: functional.instance_graph(
            swapped(x)[0],
            teacher[0],
            swapped(x)[1:],
            teacher[1:],
            vertices=0.3,
            edges=2.0,
            transitions=7.0,
        ),
        lambda x: slow_graph((swapped(x)[0], teacher[0]), swapped(x)[1:], teacher[1:]),
        student[place],
    )


def test_instance_graph_of_one_layer_has_no_transitions() -> None:
    student, teacher, logits = draw(4, 3), draw(4, 5, seed=1), draw(4, 2)
    losses = [
        functional.instance_graph(logits, logits, [student], [teacher], transitions=w) for w in (0.0, 9.0)
    ]
    assert losses[0].item() == losses[1].item() > 0


def all_at_once(student: Tensor, teacher: Tensor) -> Tensor:
    """The angles without blocks."""

    def cosines(x: Tensor) -> Tensor:
        spokes = F.normalize(x[None] - x[:, None], dim=2)
        return spokes @ spokes.mT

    return F.smooth_l1_loss(cosines(student), cosines(teacher))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("anchors", [None, 1, 5, 37, 100])
def test_angles_in_blocks_are_those_at_once(anchors: int | None, dtype: torch.dtype) -> None:
    """Loss, and gradients of both sides; 37 is no multiple of 5."""
    student, teacher = draw(37, 6).to(dtype).requires_grad_(), draw(37, 4, seed=1).to(dtype).requires_grad_()
    expected = 3 * all_at_once(student, teacher)
    found = 3 * functional.relational_angle(student, teacher, anchors=anchors)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    wanted = torch.autograd.grad(expected, (student, teacher))
    for ours, plain in zip(torch.autograd.grad(found, (student, teacher)), wanted, strict=True):
        assert (ours - plain).abs().max() < tolerance * plain.abs().max().clamp(min=1)


def test_angles_leave_no_more_than_one_gradient_behind() -> None:
    student, teacher = draw(16, 6).requires_grad_(), draw(16, 4, seed=1)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        functional.relational_angle(student, teacher)
    assert max(kept) <= student.numel()


@pytest.mark.parametrize("name", SCALELESS)
def test_the_scale_of_a_network_does_not_matter(name: str) -> None:
    student, teacher = draw(6, 3).float(), draw(6, 4, seed=1).float()
    expected = getattr(functional, name)(student, teacher).item()
    for scale in (1e30, 1e-15):
        x = (scale * student).requires_grad_()
        loss = getattr(functional, name)(x, teacher / scale)
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spoil", ["zero", "equal", "opposite", "huge"])
@pytest.mark.parametrize("name", ALL)
def test_finite_where_some_samples_have_no_relation(name: str, spoil: str, dtype: torch.dtype) -> None:
    student, teacher = draw(6, 4).float(), draw(6, 4, seed=1).float()
    student[:3] = {
        "zero": torch.zeros(3, 4),
        "equal": student[3].expand(3, 4),
        "opposite": -student[3:],
        "huge": 1e4 * student[:3],
    }[spoil]
    x = student.to(dtype).requires_grad_()
    loss = getattr(functional, name)(x, teacher.to(dtype))
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    # Nothing is divided by the length of what has none.
    assert spoil == "huge" or x.grad.abs().max() < 1e4


@pytest.mark.parametrize("name", ALL)
def test_one_sample_has_no_relations(name: str) -> None:
    student = draw(1, 4).requires_grad_()
    loss = getattr(functional, name)(student, draw(1, 4, seed=1))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shapes", [((4, 3), (5, 3)), ((4,), (4, 3)), ((0, 3), (0, 3))])
def test_what_does_not_belong_together_is_refused(name: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match="needs features"):
        getattr(functional, name)(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_other_refusals() -> None:
    x, z = draw(4, 3), draw(4, 2)
    with pytest.raises(ValueError, match="one width"):
        functional.correlation_congruence(x, draw(4, 5))
    with pytest.raises(ValueError, match="anchors must be a whole number"):
        functional.relational_angle(x, x, anchors=0)
    with pytest.raises(ValueError, match="0 for both"):
        functional.relational(x, x, distance=0.0, angle=0.0)
    with pytest.raises(ValueError, match="distance and angle must not both be 0"):
        methods.get("relational")(distance=0.0, angle=0.0)
    with pytest.raises(ValueError, match="as many layers"):
        functional.instance_graph(z, z, [x], [x, x])
    with pytest.raises(ValueError, match="of the same samples"):
        functional.instance_graph(draw(5, 2), draw(5, 2), [x], [x])
    with pytest.raises(ValueError, match="set up for 1 pairs of features; got 2"):
        call(ready("correlation_congruence", (x,), (x,)), (x, x), (x, x))


def ready(name: str, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], **options: Any) -> Method:
    method = methods.get(name)(**options)
    logits = torch.zeros(len(student[0]), 2)
    method.setup(Probe(Knowledge(logits, student), Knowledge(logits, teacher), Batch(logits)))
    return method


def call(method: Method, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
    logits = torch.zeros(len(student[0]), 2)
    loss: Tensor = method(Knowledge(logits, student), Knowledge(logits, teacher), Batch(logits))
    return loss


@pytest.mark.parametrize("name", ALL)
def test_pairs_add_up(name: str) -> None:
    student, teacher = draw(5, 3, 2, 2), draw(5, 12, seed=1)
    options = {"dimension": None} if name == "correlation_congruence" else {}
    pairs = [(student, teacher), (teacher, student)]
    alone = [call(ready(name, (a,), (b,), **options), (a,), (b,)).item() for a, b in pairs]
    ours, theirs = zip(*pairs, strict=True)
    assert call(ready(name, ours, theirs, **options), ours, theirs).item() == pytest.approx(sum(alone))


def test_rkd_is_both_of_its_parts() -> None:
    """A recipe that asks for `rkd` gets distances and angles with their published weights."""
    student, teacher = draw(5, 3), draw(5, 4, seed=1)
    found = call(ready("rkd", (student,), (teacher,)), (student,), (teacher,)).item()
    parts = [
        call(ready(n, (student,), (teacher,)), (student,), (teacher,)).item() for n in ("rkd_d", "rkd_a")
    ]
    assert found == pytest.approx(25 * parts[0] + 50 * parts[1], rel=1e-12)
