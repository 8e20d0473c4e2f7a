"""Methods that compare maps: against slow references with plain numbers, and their own layers and traps."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from slow import agree, draw, softmax
from torch import Tensor, nn

from limbeck import functional, methods
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe

Rows = list[list[float]]
Shape = tuple[int, ...]

MANY = (
    "attention_transfer",
    "channel_wise",
    "inter_channel_correlation",
    "neuron_selectivity",
    "variational_information",
)
WITH_LAYERS = ("channel_wise", "inter_channel_correlation", "variational_information")


def dot(a: list[float], b: list[float]) -> float:
    return sum(p * q for p, q in zip(a, b, strict=True))


def unit(row: list[float]) -> list[float]:
    return [v / math.sqrt(dot(row, row)) for v in row]


def mean_square(a: list[float], b: list[float]) -> float:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / len(a)


def shrunk(channel: Rows, height: int, width: int) -> list[float]:
    """Averages over the windows that `adaptive` pooling takes: they overlap where nothing divides."""

    def windows(length: int, goal: int) -> list[range]:
        return [range(i * length // goal, -(-(i + 1) * length // goal)) for i in range(goal)]

    def mean(rows: range, columns: range) -> float:
        return sum(channel[i][j] for i in rows for j in columns) / (len(rows) * len(columns))

    return [
        mean(rows, columns)
        for rows in windows(len(channel), height)
        for columns in windows(len(channel[0]), width)
    ]


def same_size(student: Tensor, teacher: Tensor) -> tuple[list[Rows], list[Rows]]:
    """Both sides as [sample][channel][place], the larger map pooled to the smaller."""
    height, width = (min(student.shape[i], teacher.shape[i]) for i in (2, 3))
    ours, theirs = (
        [[shrunk(channel, height, width) for channel in sample] for sample in x.tolist()]
        for x in (student, teacher)
    )
    return ours, theirs


def slow_attention(student: Tensor, teacher: Tensor, p: float) -> float:
    def attention(channels: Rows) -> list[float]:
        return unit([sum(abs(v) ** p for v in place) / len(place) for place in zip(*channels, strict=True)])

    pairs = list(zip(*same_size(student, teacher), strict=True))
    return sum(mean_square(attention(a), attention(b)) for a, b in pairs) / len(pairs)


def slow_selectivity(student: Tensor, teacher: Tensor) -> float:
    def kernel(a: Rows, b: Rows) -> float:
        return sum(dot(x, y) ** 2 for x in a for y in b) / (len(a) * len(b))

    total, (ours, theirs) = 0.0, same_size(student, teacher)
    for mine, known in zip(ours, theirs, strict=True):
        a, b = [unit(c) for c in mine], [unit(c) for c in known]
        total += kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)
    return total / len(ours)


def slow_correlation(student: Tensor, teacher: Tensor) -> float:
    def correlations(channels: Rows) -> Rows:
        return [unit([dot(a, b) for b in channels]) for a in channels]

    total, (ours, theirs) = 0.0, (x.flatten(2).tolist() for x in (student, teacher))
    for mine, known in zip(ours, theirs, strict=True):
        rows = zip(correlations(mine), correlations(known), strict=True)
        total += sum(mean_square(a, b) for a, b in rows) / len(mine)
    return total / len(ours)


def slow_channels(student: Tensor, teacher: Tensor, temperature: float) -> float:
    total, (ours, theirs) = 0.0, same_size(student, teacher)
    channels = [pair for sample in zip(ours, theirs, strict=True) for pair in zip(*sample, strict=True)]
    for mine, known in channels:
        q, p = (softmax([v / temperature for v in channel]) for channel in (mine, known))
        total += sum(b * math.log(b / a) for a, b in zip(q, p, strict=True))
    return temperature**2 * total / len(channels)


def slow_information(prediction: Tensor, teacher: Tensor, log_scale: Tensor) -> float:
    variances = [math.log1p(math.exp(v)) + 1e-5 for v in log_scale.tolist()]
    terms = [
        ((a - b) ** 2 / variance + math.log(variance)) / 2
        for sample in zip(*same_size(prediction, teacher), strict=True)
        for variance, mine, known in zip(variances, *sample, strict=True)
        for a, b in zip(mine, known, strict=True)
    ]
    return sum(terms) / len(terms)


def slow_classes(
    student: Tensor, teacher: Tensor, ours: Tensor, theirs: Tensor, size: int, normalize: bool
) -> float:
    """The weights at every place first, as the paper has it, and then the pooling."""

    def class_maps(sample: list[Rows], weight: Rows) -> Rows:
        height, width = len(sample[0]), len(sample[0][0])
        found = []
        for row in weight:
            attention = [
                [dot(row, [channel[i][j] for channel in sample]) for j in range(width)] for i in range(height)
            ]
            places = shrunk(attention, size, size)
            found.append(unit(places) if normalize else places)
        return found

    maps = [
        [row for sample in x.tolist() for row in class_maps(sample, w.tolist())]
        for x, w in ((student, ours), (teacher, theirs))
    ]
    return sum(mean_square(a, b) for a, b in zip(*maps, strict=True)) / len(maps[0])


SIZES = [((4, 4), (4, 4)), ((5, 5), (2, 3)), ((2, 2), (4, 3)), ((3, 2), (2, 3))]
"""The same; the student's larger, with windows that overlap; the teacher's larger; each in one direction."""


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
@pytest.mark.parametrize("p", [1.5, 2.0, 3.0])
def test_attention_transfer(ours: Shape, theirs: Shape, p: float) -> None:
    teacher = draw(2, 4, *theirs, seed=1)
    agree(
        lambda x: functional.attention_transfer(x, teacher, p=p),
        lambda x: slow_attention(x, teacher, p),
        draw(2, 3, *ours),
    )


# With 5 and 6 channels on 2×2 places the products are taken over channels instead.
@pytest.mark.parametrize(("ours", "theirs"), SIZES)
@pytest.mark.parametrize("widths", [(2, 3), (5, 6)])
def test_neuron_selectivity(ours: Shape, theirs: Shape, widths: Shape) -> None:
    teacher = draw(2, widths[1], *theirs, seed=1)
    agree(
        lambda x: functional.neuron_selectivity(x, teacher),
        lambda x: slow_selectivity(x, teacher),
        draw(2, widths[0], *ours),
    )


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
def test_inter_channel_correlation(ours: Shape, theirs: Shape) -> None:
    """The mean is over channels twice, and not over the batch twice as in the authors' code."""
    teacher = draw(2, 3, *theirs, seed=1)
    agree(
        lambda x: functional.inter_channel_correlation(x, teacher),
        lambda x: slow_correlation(x, teacher),
        draw(2, 3, *ours),
    )


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_channel_wise(ours: Shape, theirs: Shape, temperature: float) -> None:
    teacher = draw(2, 3, *theirs, seed=1)
    agree(
        lambda x: functional.channel_wise(x, teacher, temperature=temperature),
        lambda x: slow_channels(x, teacher, temperature),
        draw(2, 3, *ours),
    )


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
def test_variational_information(ours: Shape, theirs: Shape) -> None:
    student, teacher, scale = draw(2, 3, *ours), draw(2, 3, *theirs, seed=1), draw(3, seed=2)
    agree(
        lambda x: functional.variational_information(x, teacher, scale),
        lambda x: slow_information(x, teacher, scale),
        student,
    )
    agree(
        lambda x: functional.variational_information(student, teacher, x),
        lambda x: slow_information(student, teacher, x),
        scale,
    )


@pytest.mark.parametrize(("ours", "theirs"), SIZES)
@pytest.mark.parametrize(("size", "normalize"), [(2, True), (3, True), (2, False), (1, False)])
def test_class_attention(ours: Shape, theirs: Shape, size: int, normalize: bool) -> None:
    student, teacher = draw(2, 3, *ours), draw(2, 4, *theirs, seed=1)
    own, known = draw(5, 3, seed=2), draw(5, 4, seed=3)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        found: Tensor = functional.class_attention(x, teacher, weight, known, size=size, normalize=normalize)
        return found

    agree(lambda x: loss(x, own), lambda x: slow_classes(x, teacher, own, known, size, normalize), student)
    agree(
        lambda w: loss(student, w), lambda w: slow_classes(student, teacher, w, known, size, normalize), own
    )


def knowledge(*features: Tensor) -> Knowledge:
    return Knowledge(torch.zeros(len(features[0]), 5, dtype=features[0].dtype), features)


def ready(name: str, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...], **options: Any) -> Method:
    method = methods.get(name)(**options)
    generator = torch.Generator().manual_seed(1)
    method.setup(Probe(knowledge(*student), knowledge(*teacher), Batch(torch.zeros(1)), generator=generator))
    return method


def call(method: Method, student: tuple[Tensor, ...], teacher: tuple[Tensor, ...]) -> Tensor:
    loss: Tensor = method(knowledge(*student), knowledge(*teacher), Batch(torch.zeros(1)))
    return loss


def test_the_field_finds_them_by_their_short_names() -> None:
    short = {"at", "cat_kd", "cwd", "ickd", "nst", "vid"}
    assert {methods.file_name(methods.get(name)) for name in short} == {*MANY, "class_attention"}


@pytest.mark.parametrize("name", MANY)
def test_pairs_add_up(name: str) -> None:
    pairs = [(draw(4, 3, 4, 4), draw(4, 3, 2, 2, seed=1)), (draw(4, 3, 2, 2, seed=2), draw(4, 3, 4, 4))]
    ours, theirs = zip(*pairs, strict=True)
    both = ready(name, ours, theirs)
    alone = [ready(name, (a,), (b,)) for a, b in pairs]
    with torch.no_grad():
        for method in (both, *alone):
            for parameter in method.parameters():
                parameter.fill_(0.1)
    expected = sum(call(one, (a,), (b,)).item() for one, (a, b) in zip(alone, pairs, strict=True))
    assert call(both, ours, theirs).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "options"), [("attention_transfer", {"p": 3.0}), ("channel_wise", {"temperature": 1.0})]
)
def test_options_reach_the_function(name: str, options: dict[str, float]) -> None:
    x, y = draw(4, 3, 4, 4), draw(4, 3, 4, 4, seed=1)
    expected = getattr(functional, name)(x, y, **options).item()
    assert call(ready(name, (x,), (y,), **options), (x,), (y,)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_other_pairs_than_it_was_set_up_for_are_refused(name: str) -> None:
    x = draw(4, 3, 2, 2)
    with pytest.raises(ValueError, match=f"{name} was set up for 1 pairs of features; got 2"):
        call(ready(name, (x,), (x,)), (x, x), (x, x))
    with pytest.raises(ValueError, match=f"{name} was set up for 0 pairs of features; got 1"):
        call(methods.get(name)(), (x,), (x,))


@pytest.mark.parametrize("name", ["channel_wise", "inter_channel_correlation"])
def test_a_projector_stands_only_where_widths_differ(name: str) -> None:
    student, teacher = draw(4, 3, 4, 4), draw(4, 6, 2, 2, seed=1)
    method = ready(name, (student, student), (teacher, student))
    assert isinstance(method.get_submodule("projectors.1"), nn.Identity)
    projector = method.get_submodule("projectors.0")
    expected = getattr(functional, name)(projector(student), teacher)
    assert call(method, (student, student), (teacher, student)).item() == pytest.approx(expected.item())
    # With nothing of its own before it, the same features have the least loss.
    assert call(ready(name, (student,), (student,)), (student,), (student,)).item() == pytest.approx(0)


def test_the_projector_of_inter_channel_correlation_is_the_published_one() -> None:
    method = ready("ickd", (draw(4, 3, 2, 2),), (draw(4, 6, 2, 2),))
    assert {key: tuple(p.shape) for key, p in method.named_parameters()} == {
        "projectors.0.0.weight": (6, 3, 1, 1),
        "projectors.0.1.weight": (6,),
        "projectors.0.1.bias": (6,),
    }


def test_inter_channel_correlation_of_one_width_is_a_mean_over_samples() -> None:
    student, teacher = draw(4, 3, 4, 4), draw(4, 3, 2, 2, seed=1)
    method = ready("ickd", (student,), (teacher,))
    halves = [call(method, (student[i : i + 2],), (teacher[i : i + 2],)).item() for i in (0, 2)]
    assert call(method, (student,), (teacher,)).item() == pytest.approx(sum(halves) / 2, rel=1e-12)


@pytest.mark.parametrize("variance", [1e-3, 5.0, 2000.0])
def test_variational_information_starts_with_its_variance(variance: float) -> None:
    student, teacher = draw(4, 3, 4, 4), draw(4, 6, 2, 2, seed=1)
    method = ready("vid", (student,), (teacher,), initial_variance=variance)
    assert [tuple(p.shape) for p in method.get_submodule("regressors.0").parameters()] == [
        (6, 3, 1, 1),
        (6, 6, 1, 1),
        (6, 6, 1, 1),
    ]
    predicted = method.get_submodule("regressors.0")(nn.functional.adaptive_avg_pool2d(student, 2))
    expected = ((predicted - teacher) ** 2 / variance + math.log(variance)).mean() / 2
    assert call(method, (student,), (teacher,)).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("name", ["attention_transfer", "neuron_selectivity", "inter_channel_correlation"])
def test_the_scale_of_a_network_does_not_matter(name: str) -> None:
    student, teacher = draw(3, 4, 4, 4).float(), draw(3, 4, 4, 4, seed=1).float()
    expected = getattr(functional, name)(student, teacher).item()
    for scale in (1e25, 1e-25):
        x = (scale * student).requires_grad_()
        loss = getattr(functional, name)(x, teacher / scale)
        loss.backward()
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["attention_transfer", "neuron_selectivity", "inter_channel_correlation"])
def test_what_is_zero_in_part_gets_no_gradient(name: str, dtype: torch.dtype) -> None:
    """A dead channel, and a sample that is all zero: nothing is divided by a length of zero."""
    x = draw(3, 4, 4, 4).to(dtype)
    x[0], x[1, 2] = 0, 0
    x.requires_grad_()
    loss = getattr(functional, name)(x, draw(3, 4, 4, 4, seed=1).to(dtype))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert x.grad is not None
    assert (x.grad[0] == 0).all()
    assert 0 < x.grad.abs().max() < 1e2


@pytest.mark.parametrize("name", [*MANY, "class_attention"])
def test_the_layout_in_memory_does_not_matter(name: str) -> None:
    student, teacher = draw(3, 4, 4, 4), draw(3, 4, 2, 2, seed=1)
    extra = {
        "variational_information": (draw(4, seed=2),),
        "class_attention": (draw(5, 4, seed=2), draw(5, 4, seed=3)),
    }.get(name, ())
    losses = [
        getattr(functional, name)(
            student.contiguous(memory_format=layout), teacher.contiguous(memory_format=layout), *extra
        ).item()
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


class Net(nn.Module):
    """A map, its average, and a linear classifier."""

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        self.body = nn.Conv2d(2, channels, 1, bias=False)
        self.head = nn.Linear(channels, 5)
        with torch.no_grad():
            self.body.weight.copy_(draw(channels, 2, 1, 1, seed=seed))
            self.head.weight.copy_(draw(5, channels, seed=seed + 1))

    def forward(self, x: Tensor) -> Knowledge:
        feature = self.body(x)
        return Knowledge(self.head(feature.mean((2, 3))), (feature,))


def set_up(
    student: Net, teacher: Net, x: Tensor, *, heads: tuple[nn.Module | None, ...] = (), **options: Any
) -> Method:
    method = methods.get("class_attention")(**options)
    own, known = heads or (student.head, teacher.head)
    method.setup(Probe(student(x), teacher(x), Batch(x), student_head=own, teacher_head=known))
    return method


def taught(method: Callable[..., Tensor], student: Net, teacher: Net, x: Tensor) -> float:
    """The loss, after its gradient has been added to both networks."""
    loss = method(student(x), teacher(x), Batch(x))
    loss.backward()
    return loss.item()


IMAGES = draw(3, 2, 4, 4, seed=9).float()


@pytest.mark.parametrize(("normalize", "without"), [(True, 1 / 9), (False, None)])
def test_class_attention_teaches_the_students_classifier_too(normalize: bool, without: float | None) -> None:
    student, teacher = Net(3, 0), Net(4, 10)
    method = set_up(student, teacher, IMAGES, size=3, normalize=normalize)
    loss = taught(method, student, teacher, IMAGES)
    expected = functional.class_attention(
        student(IMAGES).features[0],
        teacher(IMAGES).features[0],
        student.head.weight,
        teacher.head.weight,
        size=3,
        normalize=normalize,
    )
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    (slope,) = torch.autograd.grad(expected, student.head.weight)
    torch.testing.assert_close(student.head.weight.grad, slope)
    assert student.body.weight.grad is not None
    assert all(p.grad is None for p in teacher.parameters())
    # The classifier of the network as it now is, not as it was.
    with torch.no_grad():
        student.head.weight.zero_()
    found = taught(method, student, teacher, IMAGES)
    assert found != loss
    assert without is None or found == pytest.approx(without, rel=1e-6)


def test_class_attention_owns_neither_classifier() -> None:
    method = set_up(Net(3, 0), Net(4, 10), IMAGES)
    assert list(method.parameters()) == []
    assert method.state_dict() == {}
    assert [m for m in method.modules() if m is not method] == []


def test_class_attention_goes_on_with_a_copied_student() -> None:
    student, teacher = Net(3, 0), Net(4, 10)
    method = set_up(student, teacher, IMAGES)
    # In this order the method is copied first, and the student's classifier with it.
    other, copied = copy.deepcopy((method, student))
    taught(other, copied, teacher, IMAGES)
    assert student.head.weight.grad is None
    assert copied.head.weight.grad is not None
    with torch.no_grad():
        copied.head.weight.zero_()
    assert taught(other, copied, teacher, IMAGES) == pytest.approx(1 / 4)


def test_class_attention_teaches_the_classifier_from_a_compiled_graph() -> None:
    student, teacher = Net(3, 0), Net(4, 10)
    method = set_up(student, teacher, IMAGES)
    plain = taught(method, student, teacher, IMAGES)
    slope = student.head.weight.grad
    student.zero_grad()
    torch.compiler.reset()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(x: Tensor) -> Tensor:
        loss: Tensor = method(student(x), teacher(x), Batch(x))
        return loss

    loss = step(IMAGES)
    loss.backward()
    torch.compiler.reset()
    assert loss.item() == pytest.approx(plain)
    torch.testing.assert_close(student.head.weight.grad, slope)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_class_attention_takes_classifiers_of_another_precision(dtype: torch.dtype) -> None:
    student, teacher = Net(3, 0), Net(4, 10)
    expected = taught(set_up(student, teacher, IMAGES), student, teacher, IMAGES)
    own, known = (copy.deepcopy(net.head).to(dtype) for net in (student, teacher))
    method = set_up(student, teacher, IMAGES, heads=(own, known))
    found = taught(method, student, teacher, IMAGES)
    assert found == pytest.approx(expected, rel=2e-2 if dtype == torch.bfloat16 else 1e-6)
    assert own.weight.grad is not None
    assert own.weight.grad.dtype == dtype


@pytest.mark.parametrize(
    ("who", "head", "message"),
    [
        ("student", None, "here of 3 channels, and none answers its logits; tap the map"),
        ("teacher", nn.Conv2d(4, 5, 1), "here of 4 channels, and none answers its logits"),
        ("student", nn.Linear(12, 5), "of 3 channels, and it takes 12"),
        ("teacher", nn.Linear(4, 6), "of 4 channels, and of that it answers other logits"),
        # One that is there and not used, say.
        ("teacher", nn.Linear(4, 5), "of 4 channels, and of that it answers other logits"),
    ],
)
def test_class_attention_says_which_networks_it_needs(who: str, head: nn.Module | None, message: str) -> None:
    own, known = Net(3, 0), Net(4, 10)
    heads = (head, known.head) if who == "student" else (own.head, head)
    with pytest.raises(ValueError, match=f"needs a {who} .* {message}"):
        set_up(own, known, IMAGES, heads=heads)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_class_attention_refuses_a_classifier_of_something_else_than_the_average(who: str) -> None:
    """As a vision transformer's, which takes the class token, or one behind a gate."""

    class Gated(Net):
        def forward(self, x: Tensor) -> Knowledge:
            feature = self.body(x)
            pooled = feature.mean((2, 3))
            return Knowledge(self.head(pooled * pooled.sigmoid()), (feature,))

    own, known = Net(3, 0), Net(4, 10)
    own, known = (Gated(3, 0), known) if who == "student" else (own, Gated(4, 10))
    with pytest.raises(ValueError, match=f"needs a {who} .* of that it answers other logits"):
        set_up(own, known, IMAGES)


def test_class_attention_compares_one_pair() -> None:
    student, teacher = Net(3, 0), Net(4, 10)
    with pytest.raises(ValueError, match="was not set up for one pair of features; got 1"):
        taught(methods.get("class_attention")(), student, teacher, IMAGES)
    method, x = set_up(student, teacher, IMAGES), draw(3, 3, 2, 2)
    with pytest.raises(ValueError, match="was set up for one pair of features; got 2"):
        call(method, (x, x), (x, x))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: functional.class_attention(x, x, draw(5, 4), draw(5, 3)), r"\[5, 4\] for \[4, 3, 2, 2\]"),
        (lambda x: functional.class_attention(x, x, draw(5), draw(5, 3)), r"\[5\] for \[4, 3, 2, 2\]"),
        (lambda x: functional.class_attention(x, x, draw(5, 3), draw(6, 3)), "weights of the same classes"),
        (lambda x: functional.class_attention(x, x[:3], draw(5, 3), draw(5, 3)), "maps of the same samples"),
        (lambda x: functional.class_attention(x, x, draw(5, 3), draw(5, 3), size=1), "size must be .* >= 2"),
        (lambda x: functional.attention_transfer(x, x, p=0.5), "p must be a finite number >= 1"),
        (lambda x: functional.channel_wise(x, x, temperature=0.0), "temperature must be"),
        (lambda x: functional.channel_wise(x, x[:, :2]), r"one shape; .* teacher \[4, 2, 2, 2\]"),
        (lambda x: functional.inter_channel_correlation(x, x[:, :2]), "same number of channels"),
        (lambda x: functional.inter_channel_correlation(x, x[:3]), "maps of the same samples"),
        (lambda x: functional.attention_transfer(x, x[:3]), "maps of the same samples"),
        (lambda x: functional.neuron_selectivity(x, x[:3]), "maps of the same samples"),
        (lambda x: functional.variational_information(x, x[:, :2], draw(3)), "features of one shape"),
        (lambda x: functional.variational_information(x, x, draw(2)), r"each of the 3 channels; got \[2\]"),
    ],
)
def test_what_does_not_belong_together_is_refused(call: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(draw(4, 3, 2, 2))


@pytest.mark.parametrize("name", [*MANY, "class_attention"])
def test_what_is_no_map_is_refused(name: str) -> None:
    tokens, maps = draw(4, 6, 3), draw(4, 3, 2, 2)
    extra = {"variational_information": (draw(3),), "class_attention": (draw(5, 3), draw(5, 3))}.get(name, ())
    for pair in itertools.permutations((tokens, maps)):
        with pytest.raises(
            ValueError, match=rf"{name} needs maps \[B, C, H, W\]; got \[4, 6, 3\]; a tap's :map"
        ):
            getattr(functional, name)(*pair, *extra)
    if name in WITH_LAYERS:
        with pytest.raises(ValueError, match=rf"{name} needs maps"):
            ready(name, (maps, tokens), (maps, maps))


def test_maps_of_one_place_are_refused_where_places_are_all_there_is() -> None:
    x, w = draw(4, 3, 1, 1), draw(5, 3)
    with pytest.raises(ValueError, match=r"needs more than one place; got \[4, 3, 1, 1\]"):
        functional.channel_wise(x, draw(4, 3, 2, 2))
    with pytest.raises(ValueError, match=r"more than one place; .* teacher \[4, 3, 1, 1\]"):
        functional.class_attention(draw(4, 3, 2, 2), x, w, w)
    assert functional.class_attention(draw(4, 3, 2, 2), x, w, w, normalize=False) > 0
    assert functional.attention_transfer(x, 2 * x.flip(0)) == 0
    assert functional.neuron_selectivity(x, 2 * x.flip(0)) == pytest.approx(0)


def test_a_weak_sample_counts_at_high_powers_too() -> None:
    student, teacher = draw(3, 4, 3, 3), draw(3, 4, 3, 3, seed=1)
    scale = torch.tensor([1.0, 1e-2, 1e-4], dtype=torch.float64)[:, None, None, None]
    for p in (2, 8):
        even = functional.attention_transfer(student, teacher, p=p)
        torch.testing.assert_close(functional.attention_transfer(student * scale, teacher, p=p), even)
