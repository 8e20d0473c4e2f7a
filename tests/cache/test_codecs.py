"""What is stored of a teacher's logits, and what comes back."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck.cache import Codec, Dense, Layout, Sampled, TopK
from limbeck.cache.codecs import codec_named
from limbeck.errors import InputError, WorkError
from limbeck.functional import kd
from limbeck.knowledge import Knowledge


def logits(rows: int, classes: int, scale: float = 4.0) -> Tensor:
    return torch.randn(rows, classes, generator=torch.Generator().manual_seed(rows + classes)) * scale


def words(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, rows).astype(np.uint64)


def there_and_back(codec: Codec, given: Tensor, seed: int = 0) -> Tensor:
    layout = Layout(given.shape[1], codec)
    return layout.decode(layout.encode(Knowledge(given), words(len(given), seed))).logits


def test_single_precision_gives_the_logits_back_and_half_rounds_them() -> None:
    given = logits(32, 10)
    assert torch.equal(there_and_back(Dense(32), given), given)
    assert torch.equal(there_and_back(Dense(16), given), given.half().float())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_largest_logits_keep_the_mass_of_the_rest_at_the_temperature(temperature: float) -> None:
    given = logits(16, 2000)
    found = there_and_back(TopK(20, temperature), given)
    shares, kept = (torch.softmax(z.double() / temperature, 1) for z in (given, found))
    top = given.topk(20, 1).indices
    torch.testing.assert_close(kept.gather(1, top).sum(1), shares.gather(1, top).sum(1), rtol=0, atol=2e-3)
    torch.testing.assert_close(kept.gather(1, top), shares.gather(1, top), rtol=2e-2, atol=1e-6)
    # The rest is told apart no more: one logit for all of it.
    rest = found.scatter(1, top, math.nan)
    assert all(len(row[~row.isnan()].unique()) == 1 for row in rest)
    # Left out, it would be far from the teacher.
    without = found.scatter(1, top, -1e4).where(rest.isnan(), torch.tensor(-1e4))
    without = without.scatter(1, top, found.gather(1, top))
    assert kd(found, given, temperature=temperature) < 0.1 * kd(without, given, temperature=temperature)


def test_as_many_as_there_are_classes_is_all_of_them() -> None:
    given = logits(4, 12)
    assert torch.equal(there_and_back(TopK(50, 1.0), given), given.half().float())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_drawn_shares_are_right_on_average(temperature: float) -> None:
    given, rounds, draws = logits(1, 3000, 3.0), 4000, 32
    many = given.expand(rounds, -1)
    found = there_and_back(Sampled(draws, temperature), many)
    shares = torch.softmax(found / temperature, 1)
    mean, wanted = shares.double().mean(0), torch.softmax(given[0].double() / temperature, 0)
    # Each share is a mean of tosses of a coin: six standard deviations, and some tosses for rare classes.
    tosses = rounds * draws
    error = (wanted * (1 - wanted) / tosses).sqrt()
    assert ((mean - wanted).abs() <= 6 * error + 6 / tosses).all()
    # And two thirds of the time within one of them, so that the bound above is no accident.
    likely = wanted > 1e-3
    assert ((mean - wanted).abs() <= error)[likely].double().mean() > 0.5


def test_draws_depend_on_their_words_alone() -> None:
    given = logits(8, 500)
    assert torch.equal(there_and_back(Sampled(16), given, 1), there_and_back(Sampled(16), given, 1))
    assert not torch.equal(there_and_back(Sampled(16), given, 1), there_and_back(Sampled(16), given, 2))


@pytest.mark.parametrize(
    ("codec", "classes"), [(Dense(16), 10), (Dense(16), 1000), (TopK(100, 4.0), 1001), (TopK(), 70_000)]
)
def test_a_row_takes_at_most_two_bytes_a_class_and_eight(codec: Codec, classes: int) -> None:
    assert Layout(classes, codec).dtype.itemsize <= 2 * classes + 8


def test_features_come_back_in_their_shape() -> None:
    layout = Layout(3, Dense(16), ((4, 2, 2), (5,)))
    features = (torch.randn(6, 4, 2, 2), torch.randn(6, 5))
    rows = layout.encode(Knowledge(logits(6, 3), features), words(6))
    for found, given in zip(layout.decode(rows).features, features, strict=True):
        assert torch.equal(found, given.half().float())


def test_what_half_precision_cannot_hold_is_refused_by_name() -> None:
    layout = Layout(2, Dense(16), ((2,),))
    with pytest.raises(InputError, match=r"logits reach 7e\+04.*store: fp32"):
        layout.encode(Knowledge(torch.full((1, 2), 7e4), (torch.zeros(1, 2),)), words(1))
    with pytest.raises(InputError, match="features reach"):
        layout.encode(Knowledge(torch.zeros(1, 2), (torch.full((1, 2), -7e4),)), words(1))


@pytest.mark.parametrize("codec", [Dense(16), Dense(32), TopK(2), Sampled(4)])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_an_answer_that_is_not_finite_is_refused(codec: Codec, bad: float) -> None:
    with pytest.raises(WorkError, match="not finite"):
        Layout(3, codec).encode(Knowledge(torch.tensor([[0.0, bad, 1.0]])), words(1))


@pytest.mark.parametrize("codec", [Dense(32), TopK(7, 2.0), Sampled(9, 3.0)])
def test_a_codec_is_told_by_plain_values(codec: Codec) -> None:
    assert codec_named(codec.describe()) == codec
    layout = Layout(11, codec, ((2, 3),))
    assert Layout.described(layout.describe()) == layout
