"""Several teachers are frozen each, answer as one, and every one of them reaches the student."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.assembly import setup
from limbeck.errors import InputError
from limbeck.functional import kd
from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective, Term
from limbeck.schemes import Several
from limbeck.students.small import convnet, mlp
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble, Frozen, weightings
from limbeck.teachers.ensemble import combined, taps_of, whose
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

NAMES = ("good", "flat", "bad")
STEPS = 3


def draw(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(seed: int = 0, size: int = 12) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 10, (size,), generator=drawn)
    target[::5] = -1
    return Batch(torch.rand(size, 1, 8, 8, generator=drawn), target)


class Made:
    """The same batches however often they are asked for."""

    complete = False

    def __len__(self) -> int:
        return STEPS

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        yield from ([batch(100 * view + number)] for number in range(start, STEPS))


def networks() -> dict[str, nn.Module]:
    """Of unlike architectures, two of them with BatchNorm."""
    torch.manual_seed(1)
    found: dict[str, nn.Module] = {
        "good": convnet(width=6),
        "flat": mlp((8, 8)),
        "bad": convnet(width=4, depth=3),
    }
    return found


def ensemble(taps: tuple[str, ...] = (), name: str = "average", **options: Any) -> Ensemble:
    members = {n: Frozen(Tapped(net, taps_of(n, taps), who=n)) for n, net in networks().items()}
    return Ensemble(members, weightings.create(name, options, len(members)), taps)


def student() -> Tapped:
    torch.manual_seed(2)
    return Tapped(convnet(width=4, depth=2, batch_norm=False))


def scheme(terms: dict[str, Term | float], name: str = "average", **options: Any) -> Several:
    objective = Objective(terms)
    teacher = ensemble(tuple(objective.teacher_taps), name, **options)
    torch.manual_seed(2)
    network = Tapped(convnet(width=4, depth=2, batch_norm=False), objective.student_taps)
    setup(network, objective, teacher, batch(), samples=12, classes=10, seed=0)
    return Several(network, objective, teacher, classes=10)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_from_the_combined_answer_has_the_gradient_of_the_weighted_sum(temperature: float) -> None:
    teachers, weights = draw(6, 3, 5), draw(6, 3, seed=1).softmax(1)
    weights = torch.where(torch.arange(6)[:, None] == 0, torch.tensor([1.0, 0.0, 0.0]), weights)
    z = draw(6, 5, seed=2).requires_grad_()
    ours = kd(z, combined(teachers, weights, temperature).double(), temperature=temperature)
    theirs = sum(
        weights[n, k] * temperature**2 * _kl(teachers[n, k] / temperature, z[n] / temperature) / 6
        for n in range(6)
        for k in range(3)
    )
    assert isinstance(theirs, Tensor)
    slopes = [torch.autograd.grad(loss, z, retain_graph=True)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-6, rtol=1e-5)
    assert ours.item() <= theirs.item()  # they differ by what the teachers disagree about


def _kl(p: Tensor, q: Tensor) -> Tensor:
    return (p.softmax(0) * (p.log_softmax(0) - q.log_softmax(0))).sum()


def test_all_answers_and_features_come_in_the_order_that_was_asked_for() -> None:
    taps = ("bad/stage3", "good/stage1", "bad/stage1", "good/stage2")
    said = ensemble(taps)(batch())
    nets = {name: net.eval() for name, net in networks().items()}
    alone = torch.stack([nets[name](batch().input) for name in NAMES], 1)
    torch.testing.assert_close(said.logits, alone)
    assert [f.shape[1:] for f in said.features] == [(16, 2, 2), (6, 8, 8), (4, 8, 8), (12, 4, 4)]
    assert not said.logits.requires_grad


def test_each_member_picks_its_own_classes_and_all_must_answer_the_same() -> None:
    torch.manual_seed(0)
    members = {
        "few": Frozen(Tapped(mlp((8, 8), num_classes=3))),
        "many": Frozen(Tapped(mlp((8, 8), num_classes=5)), classes=[4, 0, 2]),
    }
    made = Ensemble(members, weightings.create("average", {}, 2))
    said = made(batch())
    many = members["many"].network.model(batch().input)
    torch.testing.assert_close(said.logits[:, 1], many[:, [4, 0, 2]])
    plain = made.plain()(batch().input)
    torch.testing.assert_close(plain.softmax(1), said.logits.softmax(2).mean(1))
    wrong = Ensemble({**members, "all": Frozen(Tapped(mlp((8, 8), num_classes=5)))}, made.weighting)
    with pytest.raises(InputError, match=r"teacher\.all: answers \[12, 5\].*few answers \[12, 3\]"):
        wrong(batch())


def test_a_layer_must_say_which_teacher_it_is_of() -> None:
    with pytest.raises(InputError, match=r"must say which of the teachers \(good, flat, bad\)"):
        whose("stage1", NAMES)
    with pytest.raises(InputError, match='unknown teacher "god"'):
        whose("god/stage1", NAMES)
    assert whose("bad/stage1:in", NAMES) == ("bad", "stage1:in")


@pytest.mark.parametrize("name", weightings.KINDS)
def test_training_leaves_every_teacher_as_it_was_to_the_last_bit(name: str) -> None:
    hints = {f"hint.{n}": Term("hint", layers={"stage2": f"{n}/stage2"}) for n in ("good", "bad")}
    made = scheme({"cross_entropy": 0.1, "kd": 0.9, **hints}, name)
    teacher = made.teacher
    assert isinstance(teacher, Ensemble)
    before = copy.deepcopy(teacher.network.state_dict())
    assert any("running_var" in key for key in before)
    runtime = Runtime("cpu", channels_last=False)
    trainer = Trainer(made, Training(epochs=2, ema=None), runtime, STEPS, seed=0)
    for number, step in enumerate(trainer.fit(Made())):
        if number == 1:
            teacher.network.train()  # somebody outside meddles
        assert torch.isfinite(step.losses["loss"])
        total = sum(float(step.losses[f"weight.{n}"]) for n in NAMES)
        assert total == pytest.approx(1, abs=1e-5)
    after = teacher.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(not p.requires_grad for p in teacher.network.parameters())


def test_every_teachers_hint_counts_once_and_reaches_the_student() -> None:
    weight = 6.0
    pairs = {"good": {"stage1": "good/stage1"}, "bad": {"stage2": "bad/stage2"}}
    terms: dict[str, Term | float] = {
        f"hint.{n}": Term("hint", weight=weight / 2, layers=layers) for n, layers in pairs.items()
    }
    made = scheme(terms)
    asked = batch()
    teaching = made.teach(asked)
    losses = made(asked, teaching)
    assert teaching is not None
    slow = torch.zeros(())
    seen = made.student(asked.input)
    for place, name in enumerate(pairs):
        regressor = made.objective.method(f"hint.{name}")
        alone = Knowledge(seen.logits, (seen.features[place],))
        heard = Knowledge(teaching.logits[:, 0], (teaching.features[place],))
        own = regressor(alone, heard, asked)
        slow = slow + weight / 2 * own
        reach = torch.autograd.grad(
            own, list(made.student.parameters()), retain_graph=True, allow_unused=True
        )
        assert any(g is not None and g.abs().sum() > 0 for g in reach), (
            f"nothing of {name} reaches the student"
        )
        torch.testing.assert_close(losses[f"hint.{name}"], own)
    torch.testing.assert_close(losses["loss"], slow)
    ours = torch.autograd.grad(losses["loss"], list(made.student.parameters()), allow_unused=True)
    theirs = torch.autograd.grad(slow, list(made.student.parameters()), allow_unused=True)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ["confidence", "gradient", "learned"])
def test_weights_are_constants_to_the_students_losses(name: str) -> None:
    made = scheme({"kd": Term(temperature=3.0)}, name)
    asked = batch()
    teaching = made.teach(asked)
    assert teaching is not None
    losses = made(asked, teaching)
    slopes = torch.autograd.grad(losses["kd"], list(made.student.parameters()), retain_graph=True)
    said = made.student(asked.input).logits
    weights = made.weighting(teaching.logits, said.detach(), asked, 3.0).detach()
    target = (weights[..., None] * (teaching.logits / 3.0).softmax(2)).sum(1)
    slow = 9.0 * F.kl_div((said / 3.0).log_softmax(1), target, reduction="batchmean")
    expected = torch.autograd.grad(slow, list(made.student.parameters()))
    for one, other in zip(slopes, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    learned = list(made.weighting.parameters())
    if learned:
        assert torch.autograd.grad(losses["kd"], learned, retain_graph=True, allow_unused=True) == (
            None,
            None,
        )
        moved = torch.autograd.grad(losses["weighting"], learned, retain_graph=True)
        assert all(g.abs().sum() > 0 for g in moved)
        still = torch.autograd.grad(losses["weighting"], list(made.student.parameters()), allow_unused=True)
        assert all(g is None for g in still)
    means = torch.stack([losses[f"weight.{n}"] for n in NAMES])
    torch.testing.assert_close(means, weights.mean(0))


def test_what_is_learned_is_trained_and_kept_with_the_student() -> None:
    made = scheme({"cross_entropy": 0.5, "kd": 0.5}, "learned")
    runtime = Runtime("cpu", channels_last=False)
    trainer = Trainer(made, Training(epochs=1), runtime, STEPS, seed=0)
    list(trainer.fit(Made()))
    state = trainer.state()
    assert state["scheme"]["weighting.bias"].abs().sum() > 0
    other = scheme({"cross_entropy": 0.5, "kd": 0.5}, "learned")
    resumed = Trainer(other, Training(epochs=1), runtime, STEPS, seed=0)
    resumed.load_state(state)
    assert torch.equal(other.weighting.bias, made.weighting.bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", weightings.KINDS)
def test_looking_ahead_changes_nothing(name: str) -> None:
    found = []
    for ahead in (1, 2):
        made = scheme({"kd": 1.0, "hint.bad": Term("hint", layers={"stage2": "bad/stage2"})}, name)
        assert made.looks_ahead
        runtime = Runtime("cpu", channels_last=False)
        trainer = Trainer(made, Training(epochs=2), runtime, STEPS, seed=0, ahead=ahead)
        list(trainer.fit(Made()))
        found.append(made.state_dict())
    for key, value in found[0].items():
        torch.testing.assert_close(found[1][key], value, atol=1e-6, rtol=1e-5)


def test_a_weighting_for_other_teachers_is_refused() -> None:
    teacher = ensemble()
    teacher.weighting = weightings.Average([1.0, 2.0])
    with pytest.raises(InputError, match="one for each of 3 teachers, got 2"):
        Several(student(), Objective({"kd": 1.0}), teacher, classes=10)
