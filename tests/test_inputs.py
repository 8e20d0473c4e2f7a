"""What stands between pixels and networks."""

import math

import pytest
import torch
from torch.nn import functional as F

from limbeck.errors import InputError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputAdapter, InputSpec, per_channel


def _images(channels: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_normalisation_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    x = _images()
    adapted = InputAdapter(InputSpec(IMAGENET_MEAN, IMAGENET_STD), channels=3)(x)
    for c in range(3):
        torch.testing.assert_close(adapted[:, c], (x[:, c] - IMAGENET_MEAN[c]) / IMAGENET_STD[c])


def test_one_value_normalises_every_channel() -> None:
    x = _images()
    adapted = InputAdapter(InputSpec(mean=(0.5,), std=(0.25,)), channels=3)(x)
    torch.testing.assert_close(adapted, (x - 0.5) / 0.25)


def test_nothing_to_do_returns_the_very_same_tensor() -> None:
    x = _images()
    assert InputAdapter(InputSpec(), channels=3)(x) is x
    assert InputAdapter(InputSpec(mean=(0.0,), std=(1.0,), size=8, channels=3), channels=3)(x) is x


def test_grey_images_are_repeated_for_a_colour_network() -> None:
    x = _images(1)
    adapted = InputAdapter(InputSpec(IMAGENET_MEAN, IMAGENET_STD, channels=3), channels=1)(x)
    assert adapted.shape == (2, 3, 8, 8)
    for c in range(3):
        torch.testing.assert_close(adapted[:, c], (x[:, 0] - IMAGENET_MEAN[c]) / IMAGENET_STD[c])


def test_colour_images_are_shown_to_a_grey_network_by_their_brightness() -> None:
    x = _images()
    adapted = InputAdapter(InputSpec(channels=1), channels=3)(x)
    torch.testing.assert_close(adapted[:, 0], 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2])


def test_images_are_resized_before_they_are_normalised() -> None:
    x = _images(side=9)
    adapted = InputAdapter(InputSpec(mean=(0.5,), size=6), channels=3)(x)
    smaller = F.interpolate(x, (6, 6), mode="bilinear", antialias=True)
    torch.testing.assert_close(adapted, smaller - 0.5)
    constant = InputAdapter(InputSpec(size=20), channels=3)(torch.full((1, 3, 8, 4), 0.3))
    torch.testing.assert_close(constant, torch.full((1, 3, 20, 20), 0.3))


def test_the_adapter_has_neither_parameters_nor_state() -> None:
    adapter = InputAdapter(InputSpec(IMAGENET_MEAN, IMAGENET_STD), channels=3)
    assert not list(adapter.parameters())
    assert not adapter.state_dict()


def test_channels_last_stays_channels_last() -> None:
    x = _images().to(memory_format=torch.channels_last)
    adapted = InputAdapter(InputSpec(IMAGENET_MEAN, IMAGENET_STD), channels=3)(x)
    assert adapted.is_contiguous(memory_format=torch.channels_last)


def test_values_that_are_given_replace_the_networks_own() -> None:
    own = InputSpec(IMAGENET_MEAN, IMAGENET_STD, 224, 3)
    assert own.override(None) is own
    assert own.override(InputSpec(size=32)) == InputSpec(IMAGENET_MEAN, IMAGENET_STD, 32, 3)
    assert own.override(InputSpec(mean=(0.0,))) == InputSpec((0.0,), IMAGENET_STD, 224, 3)


def test_statistics_are_averaged_for_another_number_of_channels() -> None:
    assert per_channel(IMAGENET_MEAN, 3) == IMAGENET_MEAN
    assert per_channel(IMAGENET_MEAN, 1) == pytest.approx((0.449,), abs=1e-9)
    assert per_channel((0.5, 0.5, 0.5), 2) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("spec", "channels", "message"),
    [
        (InputSpec(channels=3), 2, r"student\.input\.channels: images of 2 channels"),
        (InputSpec(mean=(0.1, 0.2)), 3, r"student\.input\.mean: must hold 1 value or one for each of 3"),
        (InputSpec(std=(0.0,)), 3, r"student\.input\.std: every value must be above 0"),
        (InputSpec(mean=(math.nan,)), 3, r"student\.input\.mean: must be finite"),
        (InputSpec(size=0), 3, r"student\.input\.size: must be at least 1"),
    ],
)
def test_a_specification_that_cannot_be_met_is_refused(spec: InputSpec, channels: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputAdapter(spec, channels=channels, where="student.input")
