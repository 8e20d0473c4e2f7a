"""Methods that remember samples or attend to layers: against slow references, and what they remember."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from slow import agree, draw
from torch import Tensor
from torch.nn import functional as F

from limbeck import functional
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods import contrastive as crd_module
from limbeck.methods import holistic_graph as hkd_module
from limbeck.methods._memory import Strangers, random_bank, remember
from limbeck.methods.base import Method, Probe
from limbeck.methods.contrastive import Contrastive
from limbeck.methods.holistic_graph import HolisticGraph
from limbeck.methods.semantic_calibration import SemanticCalibration

Rows = list[list[float]]
SAMPLES = 12
BOTH: list[Callable[..., Any]] = [Contrastive, HolisticGraph]


def unit(rows: Rows) -> Rows:
    return [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in rows]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def bank(samples: int, width: int, seed: int) -> Tensor:
    return torch.tensor(unit(draw(samples, width, seed=seed).tolist()), dtype=torch.float64)


def slow_contrastive(
    embeddings: Rows, others: Rows, rows: list[list[int]], normalizer: float, temperature: float
) -> float:
    """Equations 17 and 18 of the paper for one side: is this row the sample's own, or noise?"""
    total, noise = 0.0, (len(rows[0]) - 1) / len(others)
    for embedding, drawn in zip(embeddings, rows, strict=True):
        for place, row in enumerate(drawn):
            p = math.exp(dot(embedding, others[row]) / temperature) / normalizer
            total -= math.log((p if place == 0 else noise) / (p + noise))
    return total / len(embeddings)


# The second has fewer numbers in the drawn rows of a sample than there are samples.
@pytest.mark.parametrize(("samples", "width", "negatives"), [(7, 4, 5), (9, 2, 2)])
def test_contrastive(samples: int, width: int, negatives: int) -> None:
    banks = bank(samples, width, 2), bank(samples, width, 3)
    rows = torch.randint(samples, (3, 1 + negatives), generator=torch.Generator().manual_seed(4))
    ours, theirs = bank(3, width, 0), bank(3, width, 1)
    z = (5.0, 11.0)

    def reference(student: Tensor, teacher: Tensor) -> float:
        return slow_contrastive(
            student.tolist(), banks[1].tolist(), rows.tolist(), z[0], 0.3
        ) + slow_contrastive(teacher.tolist(), banks[0].tolist(), rows.tolist(), z[1], 0.3)

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        value: Tensor = functional.contrastive(
            student, teacher, *banks, rows, log_normalizers=torch.tensor(z).double().log(), temperature=0.3
        )
        return value

    agree(lambda x: loss(x, theirs), lambda x: reference(x, theirs), ours)
    agree(lambda x: loss(ours, x), lambda x: reference(ours, x), theirs)


def test_contrastive_estimates_the_normalizer_from_the_batch() -> None:
    banks, rows = (bank(5, 4, 2), bank(5, 4, 3)), torch.tensor([[0, 2, 2], [4, 1, 3]])
    ours, theirs = bank(2, 4, 0), bank(2, 4, 1)
    log_z = []
    for side, others in ((ours, banks[1]), (theirs, banks[0])):
        found = [
            math.exp(dot(e, others[r].tolist()) / 0.5)
            for e, row in zip(side.tolist(), rows.tolist(), strict=True)
            for r in row
        ]
        log_z.append(math.log(5 * sum(found) / len(found)))
    given, own = (
        functional.contrastive(ours, theirs, *banks, rows, log_normalizers=z, temperature=0.5)
        for z in (torch.tensor(log_z, dtype=torch.float64), None)
    )
    assert own.item() == pytest.approx(given.item(), rel=1e-12)


def slow_info_nce(embeddings: Rows, positives: Rows, others: Rows, rows: list[list[int]]) -> float:
    """The share of the positive among itself and the drawn rows, τ = 0.3."""
    total = 0.0
    for embedding, positive, drawn in zip(embeddings, positives, rows, strict=True):
        own = math.exp(dot(embedding, positive) / 0.3)
        total -= math.log(own / (own + sum(math.exp(dot(embedding, others[r]) / 0.3) for r in drawn)))
    return total / len(embeddings)


@pytest.mark.parametrize("smoothing", [1.0, 0.75, 0.0])
def test_holistic_graph(smoothing: float) -> None:
    banks, index = (bank(7, 4, 2), bank(7, 4, 3)), torch.tensor([5, 0, 2])
    rows = torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(4))
    ours, theirs = bank(3, 4, 0), bank(3, 4, 1)

    def reference(student: Tensor) -> float:
        total = 0.0
        # What the other side contributes to a positive is a constant, so it stays at `ours`.
        for side, other, known in ((student, theirs, banks[1]), (theirs, ours, banks[0])):
            mixed = smoothing * known[index] + (1 - smoothing) * other
            total += slow_info_nce(side.tolist(), unit(mixed.tolist()), known.tolist(), rows.tolist())
        return total

    agree(
        lambda x: functional.holistic_graph(
            x, theirs, *banks, index, rows, smoothing=smoothing, temperature=0.3
        ),
        reference,
        ours,
    )


def slow_around(rows: Rows, logits: Rows, count: int, weight: Rows, bias: list[float]) -> Rows:
    """Each sample beside the mean of its neighbours, through a linear layer, of length 1."""
    shares = unit([[math.exp(v) / sum(math.exp(w) for w in row) for v in row] for row in logits])
    found = []
    for i, row in enumerate(rows):
        near = sorted((j for j in range(len(rows)) if j != i), key=lambda j: -dot(shares[i], shares[j]))
        joined = [rows[j] for j in [i, *near[: count - 1]]]
        mean = [sum(values) / len(joined) for values in zip(*joined, strict=True)]
        found.append([dot(w, row + mean) + b for w, b in zip(weight, bias, strict=True)])
    return unit(found)


def test_holistic_graph_adds_samples_and_their_neighbourhoods() -> None:
    method = ready(HolisticGraph, dimension=3, negatives=9, neighbours=2)
    student, teacher, batch = answers(4)
    banks = [method.student_bank.clone().tolist(), method.teacher_bank.clone().tolist()]
    loss = seeded(method, student, teacher, batch)
    torch.manual_seed(7)
    assert batch.index is not None
    rows = method.strangers.draw(batch.index, 9).tolist()
    alone, around = [], []
    for number, answer in enumerate((student, teacher)):
        embed, graph = method.embeddings[number], method.graphs[number]
        alone.append(unit(embed(answer.features[0]).tolist()))
        around.append(
            slow_around(alone[-1], answer.logits.tolist(), 2, graph.weight.tolist(), graph.bias.tolist())
        )
    expected = 0.0
    for mine, other in ((0, 1), (1, 0)):
        own = [banks[other][i] for i in batch.index.tolist()]
        mixed = [
            [0.75 * a + 0.25 * b for a, b in zip(*pair, strict=True)]
            for pair in zip(own, around[other], strict=True)
        ]
        expected += slow_info_nce(alone[mine], own, banks[other], rows)
        expected += slow_info_nce(around[mine], unit(mixed), banks[other], rows)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_holistic_graph_joins_all_of_a_batch_smaller_than_its_neighbourhood() -> None:
    joins = hkd_module._neighbours(draw(3, 5), 8)
    assert torch.equal(joins, torch.full((3, 3), 1 / 3, dtype=torch.float64))


def answers(batch: int, seed: int = 0, start: int = 0) -> tuple[Knowledge, Knowledge, Batch]:
    """Embeddings of 5 and 6 numbers for samples from `start` on, every other one."""
    student = Knowledge(draw(batch, 3, seed=seed), (draw(batch, 5, seed=seed + 1),))
    teacher = Knowledge(draw(batch, 3, seed=seed + 2), (draw(batch, 6, seed=seed + 3),))
    index = (start + 2 * torch.arange(batch)) % SAMPLES
    return student, teacher, Batch(torch.zeros(batch), index=index)


def ready(cls: Callable[..., Any], samples: int = SAMPLES, **options: Any) -> Any:
    method = cls(**{"temperature": 0.3, "negatives": 9, "dimension": 4, **options})
    student, teacher, batch = answers(3)
    generator = torch.Generator().manual_seed(1)
    method.setup(Probe(student, teacher, batch, samples=samples, generator=generator))
    return method


def seeded(method: Method, *seen: Any, seed: int = 7) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        loss: Tensor = method(*seen)
    return loss


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("negatives", [1, 9], ids=["few", "many"])
def test_a_gradient_is_that_of_the_banks_before_they_moved(cls: Callable[..., Any], negatives: int) -> None:
    gradients = []
    for training in (True, False):
        method = ready(cls, negatives=negatives, dimension=2).train(training)
        losses, at = [], []
        for seed in (0, 10) if training else (0,):
            student, teacher, batch = answers(4, seed=seed)
            at.append(student.features[0].requires_grad_())
            losses.append(seeded(method, student, teacher, batch))
        gradients.append(torch.autograd.grad(losses[0], at[0])[0])
    assert torch.equal(*gradients)


def test_a_bank_moves_by_the_momentum_and_keeps_its_length() -> None:
    method = ready(Contrastive, momentum=0.25)
    student, teacher, batch = answers(4)
    before = method.student_bank.clone()
    seeded(method, student, teacher, batch)
    assert batch.index is not None
    embedding = F.normalize(method.embeddings[0](student.features[0]), dim=1)
    moved = 0.25 * before[batch.index] + 0.75 * embedding
    expected = before.index_copy(0, batch.index, moved / moved.norm(dim=1, keepdim=True))
    torch.testing.assert_close(method.student_bank, expected)
    for rows in (method.student_bank, method.teacher_bank):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(SAMPLES, dtype=torch.float64))


def drawn_often(targets: Tensor | None, index: list[int], samples: int = 6) -> list[list[int]]:
    """How often each sample is drawn for each of these, in 6000 draws."""
    torch.manual_seed(0)
    rows = Strangers(samples, targets).draw(torch.tensor(index), 6000)
    return [torch.bincount(row, minlength=samples).tolist() for row in rows]


def test_negatives_are_of_other_classes_and_all_of_those_alike() -> None:
    targets = torch.tensor([2, 0, 2, 1, 0, 2])
    for index, counts in zip(range(6), drawn_often(targets, list(range(6))), strict=True):
        others = [i for i in range(6) if targets[i] != targets[index]]
        assert [i for i, count in enumerate(counts) if count] == others
        for i in others:  # five standard deviations of a binomial count
            expected = 6000 / len(others)
            assert abs(counts[i] - expected) < 5 * math.sqrt(expected)


@pytest.mark.parametrize("targets", [None, [-1] * 6, [3] * 6], ids=["not given", "not known", "one class"])
def test_without_classes_to_tell_apart_all_but_the_sample_itself_are_negatives(
    targets: list[int] | None,
) -> None:
    given = None if targets is None else torch.tensor(targets)
    for index, counts in zip((0, 4), drawn_often(given, [0, 4]), strict=True):
        assert [i for i, count in enumerate(counts) if not count] == [index]


def test_samples_without_a_label_are_everybodys_negatives() -> None:
    known, unknown = drawn_often(torch.tensor([0, 0, 1, -1, -1, 1]), [0, 3])
    assert [i for i, count in enumerate(known) if count] == [2, 3, 4, 5]
    assert [i for i, count in enumerate(unknown) if count] == [0, 1, 2, 4, 5]


def test_of_a_sample_seen_twice_the_last_counts() -> None:
    rows = random_bank(4, 3, torch.zeros(0).double(), torch.Generator().manual_seed(0))
    new, twice, once = bank(3, 3, 5), rows.clone(), rows.clone()
    remember(twice, torch.tensor([2, 0, 2]), new, 0.5)
    remember(once, torch.tensor([0, 2]), new[1:], 0.5)
    assert torch.equal(twice, once)


def test_the_normalizers_are_those_of_the_first_batch() -> None:
    method = ready(Contrastive)
    assert method.log_normalizers.isinf().all()
    seeded(method, *answers(4))
    first = method.log_normalizers.clone()
    assert first.isfinite().all()
    seeded(method, *answers(4, seed=20))
    assert torch.equal(method.log_normalizers, first)


@pytest.mark.parametrize("cls", BOTH)
def test_nothing_is_remembered_in_eval_mode(cls: Callable[..., Any]) -> None:
    method = ready(cls).eval()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    seeded(method, *answers(4))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("cls", BOTH)
def test_a_training_goes_on_where_it_stopped(cls: Callable[..., Any]) -> None:
    def steps(method: Any, numbers: range) -> list[float]:
        found = []
        for step in numbers:
            loss = seeded(method, *answers(4, seed=step, start=step), seed=step)
            gradients = torch.autograd.grad(loss, list(method.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(method.parameters(), gradients, strict=True):
                    parameter.sub_(0.05 * gradient)
            found.append(loss.item())
        return found

    whole, first, second = (ready(cls) for _ in range(3))
    expected = steps(whole, range(6))
    start = steps(first, range(3))
    second.load_state_dict(first.state_dict())
    assert start + steps(second, range(3, 6)) == expected


@pytest.mark.parametrize("cls", BOTH)
def test_negatives_are_drawn_by_torchs_seed(cls: Callable[..., Any]) -> None:
    one, same, other = (seeded(ready(cls), *answers(4), seed=seed).item() for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize("cls", BOTH)
def test_in_training_a_student_comes_to_know_its_own(cls: Callable[..., Any]) -> None:
    """Before, its embedding is as close to other samples' rows of the teacher's bank as to its own."""
    method = ready(cls)
    index = torch.arange(SAMPLES)
    features, known = draw(SAMPLES, 5).requires_grad_(), draw(SAMPLES, 6, seed=1)
    logits = draw(SAMPLES, 3, seed=2)
    optimizer = torch.optim.Adam([features, *method.parameters()], lr=0.05)

    def lead() -> float:
        with torch.no_grad():
            alike = F.normalize(method.embeddings[0](features), dim=1) @ method.teacher_bank.T
        return float(alike.diagonal().mean() - alike.mean())

    before = lead()
    for step in range(40):
        optimizer.zero_grad()
        batch = Batch(torch.zeros(SAMPLES), index=index)
        seeded(
            method, Knowledge(logits, (features,)), Knowledge(logits, (known,)), batch, seed=step
        ).backward()
        optimizer.step()
    assert lead() > before + 0.3


@pytest.mark.parametrize("cls", BOTH)
def test_what_is_missing_or_out_of_range_is_refused(cls: Callable[..., Any]) -> None:
    student, teacher, batch = answers(4)
    with pytest.raises(ValueError, match=r"needs their number, at least \d; got 0"):
        ready(cls, samples=0)
    without = Batch(torch.zeros(4))
    with pytest.raises(ValueError, match=r"needs batch\.index"):
        cls().setup(Probe(student, teacher, without, samples=SAMPLES))
    method = ready(cls)
    with pytest.raises(ValueError, match=r"needs batch\.index"):
        method(student, teacher, without)
    for wrong in (-1, SAMPLES):
        with pytest.raises(ValueError, match=rf"numbered 0 to 11; batch.index holds {wrong}"):
            method(student, teacher, Batch(torch.zeros(4), index=torch.tensor([0, 1, 2, wrong])))
    assert batch.index is not None
    with pytest.raises(ValueError, match="needs embeddings"):
        functional.contrastive(torch.zeros(2, 3), torch.zeros(2, 4), *2 * [torch.zeros(5, 3)], batch.index)


class Exchange:
    """Two threads that stand for two processes: each hands the other its rows and waits for the other's."""

    def __init__(self) -> None:
        self.own, self.barrier = threading.local(), threading.Barrier(2, timeout=60)
        self.left: list[tuple[Tensor, ...]] = [(), ()]

    def place(self) -> int:
        return int(self.own.place)

    def everyones(self, *values: Tensor) -> tuple[Tensor, ...]:
        place = self.place()
        self.left[place] = values
        self.barrier.wait()
        parts = [values if p == place else tuple(v.detach() for v in self.left[p]) for p in (0, 1)]
        self.barrier.wait()
        return tuple(torch.cat(pair) for pair in zip(*parts, strict=True))

    def run(self, work: Callable[[int], None]) -> None:
        def start(place: int) -> None:
            self.own.place = place
            work(place)

        threads = [threading.Thread(target=start, args=(place,)) for place in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(("cls", "module"), [(Contrastive, crd_module), (HolisticGraph, hkd_module)])
def test_two_processes_remember_what_one_does(
    cls: Callable[..., Any], module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, methods = ready(cls), [ready(cls), ready(cls)]
    student, teacher, batch = answers(6)
    seeded(one, student, teacher, batch)
    exchange = Exchange()
    monkeypatch.setattr(module, "everyones", exchange.everyones)
    if cls is HolisticGraph:
        monkeypatch.setattr(module, "place", exchange.place)

    def work(place: int) -> None:
        half = slice(3 * place, 3 * place + 3)
        assert batch.index is not None
        parts = [Knowledge(k.logits[half], (k.features[0][half],)) for k in (student, teacher)]
        methods[place](*parts, Batch(torch.zeros(3), index=batch.index[half]))

    exchange.run(work)
    for rows in ("student_bank", "teacher_bank"):
        torch.testing.assert_close(getattr(methods[0], rows), getattr(one, rows))
    first, second = (method.state_dict() for method in methods)
    assert all(torch.equal(first[name], second[name]) for name in first)


def slow_calibration(projected: list[list[Any]], teacher: list[Any], queries: Any, keys: Any) -> float:
    """For each sample and student layer: a softmax over the teacher's layers, times mean squared errors."""
    total, batch = 0.0, len(queries)
    for n in range(batch):
        for s, row in enumerate(projected):
            (query,) = unit([queries[n][s]])
            energies = [math.exp(dot(query, unit([key])[0])) for key in keys[n]]
            for t, ours in enumerate(row):
                flat = [v for plane in ours[n] for line in plane for v in line]
                goal = [v for plane in teacher[t][n] for line in plane for v in line]
                error = sum((a - b) ** 2 for a, b in zip(flat, goal, strict=True)) / len(flat)
                total += energies[t] / sum(energies) * error
    return total / (batch * len(projected))


def test_semantic_calibration() -> None:
    queries, keys = draw(3, 2, 4), draw(3, 2, 4, seed=1)
    teacher = [draw(3, 2, 4, 4, seed=2), draw(3, 3, 2, 2, seed=3)]
    # The second student layer is smaller than the first of the teacher, whose map is pooled to its size.
    projected = [
        [draw(3, 2, 4, 4, seed=4), draw(3, 3, 2, 2, seed=5)],
        [draw(3, 2, 2, 2, seed=6), draw(3, 3, 2, 2, seed=7)],
    ]
    pooled = teacher[0].unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))

    def reference(q: Tensor, k: Tensor, first: Tensor) -> float:
        rows = [[first, projected[0][1]], projected[1]]
        lists = [[m.tolist() for m in row] for row in rows]
        goals = [[m.tolist() for m in row] for row in ([teacher[0], teacher[1]], [pooled, teacher[1]])]
        parts = [
            slow_calibration([ours], theirs, [[v[s]] for v in q.tolist()], k.tolist())
            for s, (ours, theirs) in enumerate(zip(lists, goals, strict=True))
        ]
        return sum(parts) / 2

    def loss(q: Tensor, k: Tensor, first: Tensor) -> Tensor:
        rows = [[first, projected[0][1]], projected[1]]
        value: Tensor = functional.semantic_calibration(rows, teacher, q, k)
        return value

    first = projected[0][0]
    agree(lambda x: loss(x, keys, first), lambda x: reference(x, keys, first), queries)
    agree(lambda x: loss(queries, x, first), lambda x: reference(queries, x, first), keys)
    agree(lambda x: loss(queries, keys, x), lambda x: reference(queries, keys, x), first)


def maps(batch: int) -> tuple[Knowledge, Knowledge, Batch]:
    logits = torch.zeros(batch, 2)
    student = Knowledge(logits, (draw(batch, 2, 4, 4), draw(batch, 3, 2, 2, seed=1)))
    teacher = Knowledge(logits, (draw(batch, 4, 2, 2, seed=2), draw(batch, 5, 2, 2, seed=3)))
    return student, teacher, Batch(torch.zeros(batch))


def test_semantic_calibration_takes_any_batch_and_attends_to_each_sample_alone() -> None:
    method = SemanticCalibration(dimension=4)
    method.setup(Probe(*maps(8)))
    method.eval()  # where BatchNorm looks at each sample alone too
    student, teacher, _ = maps(5)
    losses = []
    for n in range(5):
        alone = [Knowledge(k.logits[[n]], tuple(f[[n]] for f in k.features)) for k in (student, teacher)]
        losses.append(method(*alone, Batch(torch.zeros(1))).item())
    assert method(*maps(5)).item() == pytest.approx(sum(losses) / 5, rel=1e-10)


def test_semantic_calibration_brings_the_student_to_the_teachers_width_and_the_smaller_size() -> None:
    method = SemanticCalibration(dimension=4)
    method.setup(Probe(*maps(8)))
    student, teacher, batch = maps(5)
    queries, keys = (
        torch.stack([layer(f.mean((2, 3))) for layer, f in zip(layers, known.features, strict=True)], 1)
        for layers, known in ((method.queries, student), (method.keys, teacher))
    )
    large = student.features[0].unflatten(2, (2, 2)).unflatten(4, (2, 2)).mean((3, 5))
    steps = iter(method.projections)
    projected = [[next(steps)(f) for _ in teacher.features] for f in (large, student.features[1])]
    expected = functional.semantic_calibration(projected, teacher.features, queries, keys)
    assert method(student, teacher, batch).item() == pytest.approx(expected.item(), rel=1e-10)


def test_semantic_calibration_refuses_what_it_cannot_compare() -> None:
    student, teacher, batch = maps(3)
    vectors = Knowledge(student.logits, (draw(3, 4), draw(3, 4)))
    with pytest.raises(ValueError, match=r"needs maps \[B, C, H, W\]; got \[3, 4\]"):
        SemanticCalibration().setup(Probe(vectors, teacher, batch))
    method = SemanticCalibration(dimension=4)
    method.setup(Probe(student, teacher, batch))
    fewer = [Knowledge(k.logits, k.features[:1]) for k in (student, teacher)]
    with pytest.raises(ValueError, match="set up for 2 pairs of features; got 1"):
        method(*fewer, batch)
    with pytest.raises(ValueError, match="maps of one shape after its projection"):
        functional.semantic_calibration(
            [[torch.zeros(3, 2, 2, 2)]], [torch.zeros(3, 4, 2, 2)], torch.zeros(3, 1, 2), torch.zeros(3, 1, 2)
        )
