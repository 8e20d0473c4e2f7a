"""The loop: what each step does, to the bit, and that a state holds all that the rest depends on."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import InputError, WorkError
from limbeck.knowledge import UNLABELLED, Batch, Knowledge
from limbeck.methods.base import Method
from limbeck.objective import Objective, Term
from limbeck.schemes import Offline
from limbeck.schemes.base import Setting
from limbeck.schemes.online.mutual import Mutual
from limbeck.students.small import convnet
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.checkpoint import States
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

STEPS = 4
SIZE = 16


class Made:
    """Made batches, the same for a (pass, step) however often they are asked for."""

    def __init__(self, parts: int = 1, unlabelled: bool = False) -> None:
        self.parts, self.unlabelled = parts, unlabelled
        self.complete = not unlabelled
        self.asked: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return STEPS

    def steps(self, view: int, start: int = 0) -> Iterator[list[Batch]]:
        self.asked.append((view, start))
        for number in range(start, STEPS):
            drawn = torch.Generator().manual_seed(1000 * view + number)
            images = torch.rand(SIZE, 1, 8, 8, generator=drawn)
            target = torch.randint(0, 10, (SIZE,), generator=drawn)
            if self.unlabelled:
                target[: SIZE // 2 + 1] = UNLABELLED  # unevenly spread over the parts
            yield [
                Batch(i, t) for i, t in zip(images.chunk(self.parts), target.chunk(self.parts), strict=True)
            ]


def student(dropout: float = 0.0, batch_norm: bool = True) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(convnet(width=4, batch_norm=batch_norm), nn.Dropout(dropout))


def teacher() -> Frozen:
    torch.manual_seed(6)
    return Frozen(Tapped(convnet(width=6)))


def trainer(
    model: nn.Module | None = None,
    terms: Mapping[str, Term | float] | None = None,
    *,
    taught: Frozen | None = None,
    precision: str = "fp32",
    **settings: Any,
) -> Trainer:
    settings.setdefault("epochs", 2)
    settings.setdefault("schedule", {"name": "constant"})
    scheme = Offline(Tapped(model or student()), Objective(terms or {"cross_entropy": 1.0}), taught)
    runtime = Runtime("cpu", precision, channels_last=False)
    return Trainer(scheme, Training(**settings), runtime, STEPS, seed=3)


def weights(made: Trainer) -> dict[str, Tensor]:
    return {n: v.clone() for n, v in made.scheme.state_dict().items()}


def check_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert list(one) == list(other)
    assert [n for n in one if not torch.equal(one[n], other[n])] == []


# What a step does


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch_to_the_bit(nesterov: bool, clip: float | None) -> None:
    options = {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": nesterov}
    made = trainer(optimizer={"name": "sgd", **options}, clip=clip)
    done = [step for _, step in zip(range(5), made.fit(Made()), strict=False)]
    assert len(done) == 5
    model = student()
    optimizer = torch.optim.SGD(model.parameters(), **options, fused=True)
    feed = Made()
    batches = [*feed.steps(0), *feed.steps(1)]
    for number, [batch] in enumerate(batches[:5]):
        loss = F.cross_entropy(model(batch.input), batch.target, reduction="sum") / SIZE
        assert torch.equal(loss, done[number].losses["loss"])
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
    check_bits(model.state_dict(), {k: v.clone() for k, v in made.scheme.student.model.state_dict().items()})


def test_clipping_bounds_the_step() -> None:
    made = trainer(optimizer={"name": "sgd", "lr": 1.0}, clip=1e-3)
    before = [p.detach().clone() for p in made.scheme.parameters()]
    next(made.fit(Made()))
    moved = [p.detach() - b for p, b in zip(made.scheme.parameters(), before, strict=True)]
    norm = math.sqrt(sum(float(m.double().pow(2).sum()) for m in moved))
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_steps_are_numbered_and_epochs_end() -> None:
    made = trainer()
    told = [(s.number, s.epoch, s.last) for s in made.fit(Made())]
    assert told == [(n, (n + STEPS - 1) // STEPS, n % STEPS == 0) for n in range(1, 9)]


def test_no_epochs_are_no_steps() -> None:
    made = trainer(epochs=0)
    before = weights(made)
    assert list(made.fit(Made())) == []
    check_bits(before, weights(made))


def test_bf16_trains_with_weights_in_float32() -> None:
    made = trainer(precision="bf16", terms={"cross_entropy": 0.5, "kd": 0.5}, taught=teacher())
    before = weights(made)
    losses = [float(step.losses["loss"]) for step in made.fit(Made())]
    assert all(math.isfinite(value) for value in losses)
    after = weights(made)
    assert {p.dtype for p in made.scheme.parameters()} == {torch.float32}
    assert not torch.equal(after["student.model.0.linear.weight"], before["student.model.0.linear.weight"])


@pytest.mark.parametrize("unlabelled", [False, True])
@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_is_the_whole_batch(parts: int, unlabelled: bool) -> None:
    found = []
    for count in (1, parts):
        terms: dict[str, Term | float] = {"cross_entropy": 0.5, "kd": 0.5}
        made = trainer(student(batch_norm=False), terms, taught=teacher(), clip=1.0)
        losses = [step.losses for step in made.fit(Made(count, unlabelled))]
        found.append((weights(made), losses))
    (whole, expected), (split, got) = found
    torch.testing.assert_close(split, whole, atol=1e-6, rtol=1e-6)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other, one, atol=1e-6, rtol=1e-6)


def test_a_network_that_comes_in_eval_mode_is_trained() -> None:
    model = student().eval()
    made = trainer(model)
    next(made.fit(Made()))
    assert all(module.training for module in model.modules())
    assert int(model.get_buffer("0.stage1.1.num_batches_tracked")) == 1


# The rate


def rates(steps: int = 40, **schedule: Any) -> list[float]:
    settings = Training(epochs=4, optimizer={"name": "sgd", "lr": 0.5}, schedule=schedule)
    optimizer = build_optimizer([("weight", nn.Parameter(torch.zeros(1)))], settings)
    made = build_schedule(optimizer, settings, 10)
    found = []
    for step in range(steps + 1):
        made.step_update(step)
        found.append(float(optimizer.param_groups[0]["lr"]))
    return found


def test_the_cosine_ends_at_zero() -> None:
    assert rates(name="cosine") == pytest.approx(
        [0.25 * (1 + math.cos(math.pi * t / 40)) for t in range(41)], abs=1e-12
    )


def test_the_cosine_ends_at_its_final_share() -> None:
    found = rates(name="cosine", final=0.1)
    assert found[0] == 0.5
    assert found[20] == pytest.approx(0.275)
    assert found[40] == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["cosine", "constant"])
def test_a_warm_up_wastes_no_step_and_ends_at_the_rate(name: str) -> None:
    found = rates(name=name, warmup_epochs=0.4)
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[40] == pytest.approx(0.0 if name == "cosine" else 0.5, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_steps_fall_at_their_milestones(warmup: float) -> None:
    found = rates(name="step", milestones=(1, 2.5), gamma=0.2, warmup_epochs=warmup)
    assert found[5:10] == [0.5] * 5
    assert found[10:25] == pytest.approx([0.1] * 15)
    assert found[25:] == pytest.approx([0.02] * 16)


def test_each_step_tells_its_rate() -> None:
    made = trainer(optimizer={"name": "sgd", "lr": 0.5}, schedule={"name": "cosine"})
    expected = [0.25 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
    assert [step.lr for step in made.fit(Made())] == pytest.approx(expected, abs=1e-12)


def test_unknown_names_and_options_are_refused() -> None:
    with pytest.raises(InputError, match=r'unknown optimizer "admw".*"adamw"'):
        trainer(optimizer={"name": "admw", "lr": 0.1})
    with pytest.raises(InputError, match=r'unknown option of sgd "momentun".*"momentum"'):
        trainer(optimizer={"name": "sgd", "lr": 0.1, "momentun": 0.9})
    with pytest.raises(InputError, match=r'unknown option of sgd "betas"'):
        trainer(optimizer={"name": "sgd", "lr": 0.1, "betas": [0.9, 0.99]})
    with pytest.raises(InputError, match=r'unknown option of adamw "momentum"'):
        trainer(optimizer={"name": "adamw", "lr": 0.1, "momentum": 0.9})
    with pytest.raises(InputError, match=r'unknown schedule "cosin".*"cosine"'):
        trainer(schedule={"name": "cosin"})


def test_optimizers_that_cannot_work_here_are_refused() -> None:
    with pytest.raises(InputError, match=r"adahessian .*second derivatives"):
        trainer(optimizer={"name": "adahessian", "lr": 0.1})
    with pytest.raises(InputError, match=r"fusedadam cannot be used here"):
        trainer(optimizer={"name": "fusedadam", "lr": 0.1})


# States


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "adafactorbv"])
def test_a_state_holds_all_that_the_rest_depends_on(name: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"name": name, "lr": 0.01} | ({"momentum": 0.9} if name == "sgd" else {})

    def made() -> Trainer:
        return trainer(
            student(dropout=0.3),
            {"cross_entropy": 0.5, "kd": 0.5},
            taught=teacher(),
            optimizer=options,
            schedule={"name": "cosine", "warmup_epochs": 0.5},
        )

    whole = made()
    losses = {step.number: step.losses for step in whole.fit(Made())}
    states = States(tmp_path)
    done = 0
    while done < 2 * STEPS:  # every step in a trainer of its own
        again = made()
        saved = states.load()
        if saved is not None:
            again.load_state(saved)
        torch.manual_seed(done)  # what was drawn elsewhere does not matter
        feed = Made()
        step = next(again.fit(feed))
        assert feed.asked[0] == divmod(done, STEPS)
        done += 1
        assert step.number == done
        check_bits(losses[done], step.losses)
        states.save(done, again.state())
    check_bits(weights(whole), weights(again))


def test_a_state_of_another_network_is_refused() -> None:
    with pytest.raises(InputError, match="the saved state does not fit these networks"):
        trainer(student()).load_state(trainer(student(batch_norm=False)).state())


# Teachers


def test_a_frozen_teacher_does_not_change_whatever_is_called() -> None:
    taught = teacher()
    before = {n: v.clone() for n, v in taught.network.state_dict().items()}
    made = trainer(terms={"cross_entropy": 0.5, "kd": 0.5}, taught=taught)
    for _ in made.fit(Made()):
        made.scheme.train()
        taught.network.train()
    check_bits(before, taught.network.state_dict())
    assert "model.stage1.1.running_mean" in before
    assert all(p.grad is None and not p.requires_grad for p in taught.network.parameters())
    learned = {id(p) for part in made.scheme.parts().values() for _, p in part}
    assert not learned & {id(p) for p in taught.network.parameters()}


# Losses that are not finite


class Failing(Method):
    """Fine at first, then not a number."""

    kind = "label"

    def __init__(self, at: int, value: float = math.nan) -> None:
        super().__init__()
        self.at, self.value, self.calls = at, value, 0

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        self.calls += 1
        value = student.logits.pow(2).mean()
        return value * self.value if self.calls == self.at else value


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_term_and_step(value: float, tmp_path: Path) -> None:
    states = States(tmp_path)
    made = trainer(terms={"cross_entropy": 1.0, "odd": Term(Failing(3, value))})
    steps = made.fit(Made())
    for _ in range(2):
        states.save(next(steps).number, made.state())
    with pytest.raises(WorkError, match=rf'step 3: the term "odd" became {value}'):
        next(steps)
    with pytest.raises(WorkError, match=r'step 3: the term "odd"'):
        made.state()
    kept = states.load()
    assert kept is not None
    assert kept["step"] == 2
    assert all(bool(torch.isfinite(v).all()) for v in kept["scheme"].values())


def test_a_rate_far_too_high_is_noticed() -> None:
    made = trainer(optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(WorkError, match=r'step \d: the term "cross_entropy" became'):
        list(made.fit(Made()))


def test_weights_that_are_not_finite_are_not_saved() -> None:
    made = trainer()
    next(made.fit(Made()))
    with torch.no_grad():
        next(iter(made.scheme.parameters())).fill_(math.inf)
    with pytest.raises(WorkError, match=r"step 1: the parameter student\.model\.0\.stage1\.0\.weight"):
        made.state()


def test_all_parts_of_a_step_are_scaled_back_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale must not change between the updates of two parts that were scaled together."""
    runtime = Runtime("cpu")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    monkeypatch.setattr(runtime, "scaler", lambda: scaler)
    monkeypatch.setattr(runtime, "backward", lambda loss: scaler.scale(loss).backward())
    torch.manual_seed(0)
    networks = [nn.Linear(4, 3), nn.Linear(4, 3)]
    networks[1].load_state_dict(networks[0].state_dict())
    objective = Objective({"cross_entropy": 1.0})
    setting = Setting(
        samples=None,
        classes=3,
        seed=0,
        epochs=1,
        probe=Batch(torch.zeros(2, 4)),
        objective=lambda: Objective({"cross_entropy": 1.0}),
        peers={"peer-2": Tapped(networks[1])},
    )
    scheme = Mutual(Tapped(networks[0]), objective, setting)
    trainer = Trainer(scheme, Training(epochs=1, optimizer={"name": "sgd", "lr": 1.0}), runtime, 1)
    batch = Batch(torch.randn(8, 4), torch.randint(3, (8,)))
    trainer._advance([batch])
    assert scaler.get_scale() == 2048.0  # grown once in a step, not once a part
    torch.testing.assert_close(networks[0].weight, networks[1].weight)
