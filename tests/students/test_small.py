"""The very small networks."""

import pytest
import torch
from torch import nn

from limbeck.models import parameters
from limbeck.students import small


@pytest.mark.parametrize(("depth", "channels", "side"), [(1, 1, 8), (2, 3, 8), (3, 1, 7), (4, 1, 28)])
def test_convnet_answers_with_logits(depth: int, channels: int, side: int) -> None:
    net = small.convnet(5, channels, width=4, depth=depth)
    assert net(torch.rand(3, channels, side, side)).shape == (3, 5)
    assert net.get_submodule(f"stage{depth}")(torch.rand(3, net_width(net, depth), 4, 4)).ndim == 4
    assert isinstance(net.get_submodule("linear"), nn.Linear)


def net_width(net: nn.Module, stage: int) -> int:
    convolution = net.get_submodule(f"stage{stage}.0")
    assert isinstance(convolution, nn.Conv2d)
    return convolution.in_channels


def test_convnet_without_batch_norm_has_no_batch_statistics() -> None:
    assert any(isinstance(m, nn.BatchNorm2d) for m in small.convnet().modules())
    plain = small.convnet(batch_norm=False)
    assert not list(plain.buffers())
    torch.manual_seed(0)
    x = torch.rand(4, 1, 8, 8)
    torch.testing.assert_close(plain(x)[:2], plain(x[:2]))


def test_mlp_counts_its_parameters() -> None:
    net = small.mlp((8, 8), num_classes=10, in_channels=1, width=32, depth=2)
    assert parameters(net) == (64 * 32 + 32) + (32 * 32 + 32) + (32 * 10 + 10)
    assert net(torch.rand(2, 1, 8, 8)).shape == (2, 10)


@pytest.mark.parametrize("name", ["num_classes", "in_channels", "width", "depth"])
def test_an_argument_below_one_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        small.convnet(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        small.mlp((8, 8), **{name: 0})
