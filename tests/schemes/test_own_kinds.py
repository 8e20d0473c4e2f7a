"""Class-wise, progressive, last batch, snapshot, distortion: each against its paper, step by step."""

from typing import Any

import numpy as np
import pytest
import torch
from own_parts import BATCH, batches, built, divergence, recipe, same_gradients
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED, Batch
from limbeck.schemes.base import Kind
from limbeck.schemes.own.class_wise import Mates
from limbeck.schemes.own.distortion import OTHER
from limbeck.students.small import convnet


def plain(scheme: Kind, pixels: Tensor) -> Tensor:
    """What the student says, in the mode that it is in."""
    said: Tensor = scheme.student.model(scheme.student.adapter(pixels))
    return said


def unmoving(kind: str, **options: Any) -> tuple[Kind, Data]:
    """A scheme whose student has no batch statistics, so that asking it leaves no trace."""
    student = {"model": "py:limbeck.students.small:convnet", "width": 4, "depth": 3, "batch_norm": False}
    return built(recipe(kind, options, student=student))


def nudge(scheme: Kind) -> None:
    """What an optimiser's step would do."""
    with torch.no_grad():
        for parameter in scheme.student.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    scheme.after_step()


class TestClassWise:
    def test_value_and_gradient(self) -> None:
        scheme, data = unmoving("class_wise")
        batch = batches(data, view=3)[2]
        losses = scheme(batch, scheme.teach(batch))
        mates = Mates(data.train.targets.numpy(), 0).of(batch.index.numpy(), batch.view.numpy())[0]
        theirs = plain(scheme, data.train.take(mates, 3, 0).input)
        ours = plain(scheme, batch.input)
        wanted = F.cross_entropy(ours, batch.target) + divergence(ours, theirs, 4.0)
        same_gradients(losses["loss"], wanted, scheme)

    def test_mates_are_others_of_the_class_alike_often(self) -> None:
        targets = np.array([0, 1, 0, 2, 0, UNLABELLED, 1, 0, UNLABELLED])
        mates = Mates(targets, 5)
        index = np.arange(9)
        seen = np.zeros((9, 9), dtype=int)
        for view in range(600):
            found, has = mates.of(index, np.full(9, view))
            assert has.tolist() == [True, True, True, False, True, False, True, True, False]
            seen[index, found] += 1
        assert [int(n) for n in np.diag(seen)] == [0, 0, 0, 600, 0, 600, 0, 0, 600]
        assert seen[1].tolist() == [0, 0, 0, 0, 0, 0, 600, 0, 0]
        assert sorted(np.flatnonzero(seen[0])) == [2, 4, 7]
        assert all(160 < seen[0, other] < 240 for other in (2, 4, 7))

    def test_mates_follow_from_seed_sample_and_view_alone(self) -> None:
        targets = np.arange(40) % 3
        index, view = np.arange(40), np.full(40, 7)
        whole = Mates(targets, 1).of(index, view)[0]
        parts = [Mates(targets, 1).of(index[part], view[part])[0] for part in (slice(25, 40), slice(0, 25))]
        assert np.array_equal(np.concatenate(parts[::-1]), whole)
        assert not np.array_equal(Mates(targets, 2).of(index, view)[0], whole)
        assert not np.array_equal(Mates(targets, 1).of(index, view + 1)[0], whole)

    def test_a_sample_without_a_mate_follows_nobody(self) -> None:
        chosen = recipe(
            "class_wise", data={"source": "digits", "samples": 96, "labels": 20, "batch_size": 16}
        )
        scheme, data = built(chosen)
        batch = batches(data)[0]
        mates, has = scheme.teach(batch)
        assert 0 < int(has.sum()) < len(batch)
        alone = ~has
        assert torch.equal(mates.index[alone], batch.index[alone])
        (slope,) = torch.autograd.grad(
            scheme(batch, (mates, torch.zeros_like(has)))["kd"], scheme.student.model.linear.weight
        )
        assert float(slope.abs().max()) < 1e-7, "but for rounding"

    @pytest.mark.parametrize("kind", ["class_wise", "last_batch", "distortion"])
    def test_mixed_samples_are_refused(self, kind: str) -> None:
        with pytest.raises(
            InputError, match=rf"data\.mix: the scheme own \({kind}\) needs samples of one class"
        ):
            recipe(kind, data={"source": "digits", "mix": {"mixup": 0.2}})
        scheme, data = built(recipe(kind))
        batch = batches(data)[0]
        shares = F.one_hot(batch.target, 10).float()
        with pytest.raises(ValueError, match=f"{kind}: samples of this batch are mixed"):
            scheme.teach(Batch(batch.input, shares, batch.index, batch.view))
        with pytest.raises(ValueError, match=f"{kind}: needs batch.index and batch.view"):
            scheme.teach(Batch(batch.input, batch.target))


class TestProgressive:
    TERMS: dict[str, Any] = {  # noqa: RUF012
        "cross_entropy": {"weight": {"start": 1.0, "end": 0.2, "epochs": 4}},
        "kd": {"weight": {"start": 0.0, "end": 0.8, "epochs": 4}, "temperature": 1.0},
    }

    def test_the_loss_is_that_of_a_softened_label_but_for_a_constant(self) -> None:
        scheme, data = built(recipe("progressive", objective=self.TERMS))
        batch = batches(data)[0]
        scheme.before_step(0.5)
        assert scheme.teach(batch) is None
        torch.testing.assert_close(
            scheme(batch, None)["loss"], F.cross_entropy(plain(scheme, batch.input), batch.target)
        )
        scheme.before_step(1.0)
        before = scheme.student.model.linear.weight.clone()
        nudge(scheme)
        scheme.before_step(1.5)
        losses = scheme(batch, scheme.teach(batch))
        old = convnet(width=4, depth=3)
        old.load_state_dict(scheme.teacher.network.model.state_dict())  # type: ignore[union-attr]
        assert torch.equal(old.linear.weight, before), "as it was at the end of the epoch before"
        past = old.eval()(scheme.student.adapter(batch.input)).softmax(1).detach()
        alpha = 0.8 * 1.5 / 4
        target = (1 - alpha) * F.one_hot(batch.target, 10) + alpha * past
        entropy = -(past * past.log()).sum(1).mean()
        wanted = F.cross_entropy(plain(scheme, batch.input), target) - alpha * entropy
        same_gradients(losses["loss"], wanted, scheme)

    def test_the_copy_changes_at_the_end_of_an_epoch_alone(self) -> None:
        scheme, _ = built(recipe("progressive", objective=self.TERMS))
        kept = []
        for epoch in (0.0, 0.5, 1.0, 1.5, 2.0, 2.5):
            scheme.before_step(epoch)
            kept.append(scheme.teacher.network.model.linear.weight.clone())  # type: ignore[union-attr]
            nudge(scheme)
        assert torch.equal(kept[2], kept[3])
        assert torch.equal(kept[4], kept[5])
        assert not torch.equal(kept[3], kept[4])
        assert not any(p.requires_grad for p in scheme.teacher.network.parameters())  # type: ignore[union-attr]


class TestSnapshot:
    def test_it_is_taken_at_the_end_of_each_cycle(self) -> None:
        scheme, data = built(recipe("snapshot", {"cycles": 2}))
        batch = batches(data)[0]
        for epoch in (0.0, 1.0, 1.9):
            scheme.before_step(epoch)
            assert scheme.teach(batch) is None
            nudge(scheme)
        scheme.before_step(2.0)
        theirs = scheme.teach(batch).logits
        with torch.no_grad():
            scheme.eval()
            torch.testing.assert_close(theirs, plain(scheme, batch.input))
            scheme.train()
        nudge(scheme)
        scheme.before_step(3.9)
        assert torch.equal(scheme.teach(batch).logits, theirs)
        losses = scheme(batch, scheme.teach(batch))
        ours = plain(scheme, batch.input)
        wanted = F.cross_entropy(ours, batch.target) + divergence(ours, theirs, 2.0)
        same_gradients(losses["loss"], wanted, scheme)

    def test_cycles_are_a_whole_number(self) -> None:
        for wrong in (1, 2.5, True):
            with pytest.raises(InputError, match="snapshot: cycles must be a whole number >= 2"):
                recipe("snapshot", {"cycles": wrong})

    def test_the_state_tells_whether_there_is_one(self) -> None:
        scheme, data = built(recipe("snapshot"))
        scheme.before_step(1.0)
        again, _ = built(recipe("snapshot"))
        nudge(again)
        again.load_teacher_state(scheme.teacher_state())
        batch = batches(data)[0]
        assert torch.equal(again.teach(batch).logits, scheme.teach(batch).logits)


class TestLastBatch:
    def test_value_and_gradient_over_three_steps(self) -> None:
        scheme, data = unmoving("last_batch")
        before: tuple[Batch, Tensor] | None = None
        for number, batch in enumerate(batches(data, view=2)[:3]):
            scheme.before_step(number / 6)
            losses = scheme(batch, scheme.teach(batch))
            ours = plain(scheme, batch.input)
            if before is None:
                wanted = F.cross_entropy(ours, batch.target)
            else:
                again = plain(scheme, before[0].input)
                targets = torch.cat([before[0].target, batch.target])
                wanted = F.cross_entropy(torch.cat([again, ours]), targets) + divergence(
                    again, before[1], 3.0
                )
            same_gradients(losses["loss"], wanted, scheme)
            before = batch, ours.detach()
            nudge(scheme)

    def test_parts_of_a_step_repeat_the_parts_of_the_last(self) -> None:
        scheme, data = unmoving("last_batch")
        first, second = batches(data)[:2]
        halves = [_half(batch, part) for batch in (first, second) for part in (0, 1)]
        for number in (0, 1):
            scheme.before_step(number / 6)
            for half in halves[2 * number : 2 * number + 2]:
                taught = scheme.teach(half)
                scheme(half, taught)
                if number:
                    expected = halves[0] if half is halves[2] else halves[1]
                    assert torch.equal(taught[0][0].index, expected.index)
                    torch.testing.assert_close(taught[0][1], plain(scheme, expected.input))
            scheme.after_step()  # without a step: answers stay what they were

    def test_a_step_that_was_only_tried_is_not_remembered(self) -> None:
        scheme, data = unmoving("last_batch")
        first, second, third = batches(data)[:3]
        for batch in (first, second):
            scheme.before_step(0.0)
            scheme(batch, scheme.teach(batch))
            if batch is first:
                scheme.after_step()
        scheme.before_step(0.0)
        assert torch.equal(scheme.teach(third)[0][0].index, first.index)

    def test_labels_are_counted_over_both_halves(self) -> None:
        chosen = recipe(
            "last_batch", data={"source": "digits", "samples": 96, "labels": 20, "batch_size": 16}
        )
        scheme, data = built(chosen)
        first, second = batches(data)[:2]
        for batch in (first, second):
            scheme.before_step(0.0)
            losses = scheme(batch, scheme.teach(batch))
            scheme.after_step()
        known = [batch.target != UNLABELLED for batch in (first, second)]
        assert all(0 < int(one.sum()) < BATCH for one in known)
        fresh, _ = built(chosen)
        logits = plain(fresh, torch.cat([first.input, second.input]))
        both = torch.cat([first.target, second.target])
        torch.testing.assert_close(
            losses["cross_entropy"], F.cross_entropy(logits, both, ignore_index=UNLABELLED)
        )

    def test_without_labels_the_new_half_has_nothing_to_learn_from(self) -> None:
        with pytest.raises(InputError, match="the half of a step that is new has no teacher"):
            built(recipe("last_batch", objective={"kd": 1.0}, control=False))


def _half(batch: Batch, part: int) -> Batch:
    rows = slice(part * BATCH // 2, (part + 1) * BATCH // 2)
    return Batch(batch.input[rows], batch.target[rows], batch.index[rows], batch.view[rows])


class TestDistortion:
    def test_value_and_gradient(self) -> None:
        scheme, data = unmoving("distortion", discrepancy=0.3)
        batch = batches(data, view=1)[1]
        losses = scheme(batch, scheme.teach(batch))
        other = data.train.take(batch.index.numpy(), 1, OTHER)
        assert not torch.equal(other.input, batch.input)
        features = nn.Sequential(*list(scheme.student.model.children())[:-1])
        said, apart = [], []
        for pixels in (batch.input, other.input):
            apart.append(features(scheme.student.adapter(pixels)))
            said.append(scheme.student.model.linear(apart[-1]))
        wanted = sum(F.cross_entropy(one, batch.target) for one in said)
        wanted = wanted + divergence(said[0], said[1], 3.0) + divergence(said[1], said[0], 3.0)
        wanted = wanted + 0.3 * sum(
            (a - b) ** 2 for a, b in zip(apart[0].mean(0), apart[1].mean(0), strict=True)
        )
        same_gradients(losses["loss"], wanted / 2, scheme)

    def test_without_the_discrepancy_nothing_is_tapped(self) -> None:
        scheme, data = unmoving("distortion", discrepancy=0)
        batch = batches(data)[0]
        assert list(scheme(batch, scheme.teach(batch))) == ["loss", "cross_entropy", "kd"]
        assert scheme.student.taps == ()
        with pytest.raises(InputError, match="distortion: discrepancy must be a finite number >= 0"):
            recipe("distortion", {"discrepancy": -1})


def test_what_is_learned_alone_is_set_up_too() -> None:
    """Its weights of classes come from the data."""
    terms = {"cross_entropy": {"weight": 1.0, "class_weights": "balanced"}, "kd": 1.0}
    scheme, data = built(recipe("snapshot", objective=terms))
    batch = batches(data)[0]
    counts = data.train.targets.bincount(minlength=10).float()
    weights = len(data.train) / (10 * counts)
    wanted = F.cross_entropy(plain(scheme, batch.input), batch.target, weights, reduction="sum") / BATCH
    torch.testing.assert_close(scheme(batch, None)["cross_entropy"], wanted)
