"""Small teachers, the images that they see, and what must not change about them."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputAdapter, InputSpec
from limbeck.knowledge import Knowledge
from limbeck.models import build as build_model
from limbeck.taps import Tapped

SIZE = 16


def images(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    """Images in [0, 1] in channels-last order, [count, 3, size, size]."""
    x = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def teacher(name: str = "cifar:resnet8", taps: Sequence[str] = (), size: int = SIZE) -> Tapped:
    """A network with statistics that are not the initial ones, behind a normalising input adapter."""
    torch.manual_seed(1)
    model = build_model(name, classes=5, channels=3, size=(size, size), options={}, where="teacher").model
    with torch.no_grad():
        for step in range(3):
            model.train()(images(16, seed=100 + step, size=size))
    adapter = InputAdapter(InputSpec(mean=IMAGENET_MEAN, std=IMAGENET_STD), channels=3)
    network = Tapped(model, taps, adapter, "teacher").eval().requires_grad_(False)
    return network.to(memory_format=torch.channels_last)


def state(network: Tapped) -> tuple[object, ...]:
    """All that a backend could change about a network, to be compared with `same_state`."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    hooks = {n: (*m._forward_hooks, *m._forward_pre_hooks) for n, m in network.named_modules()}
    return (
        {name: (id(t), t._version, t.requires_grad, t.stride()) for name, t in tensors.items()},
        {name: t.clone() for name, t in tensors.items()},
        hooks,
        {name: (id(m), type(m), m.training) for name, m in network.named_modules()},
    )


def assert_same_state(network: Tapped, before: tuple[object, ...]) -> None:
    after = state(network)
    values, was = after[1], before[1]
    assert isinstance(values, dict)
    assert isinstance(was, dict)
    assert all(torch.equal(values[name], was[name]) for name in was)
    assert (after[0], after[2], after[3]) == (before[0], before[2], before[3])


def exact(network: Tapped, x: Tensor) -> Knowledge:
    """What a copy of the network answers."""
    with torch.no_grad():
        answer: Knowledge = copy.deepcopy(network).eval()(x)
    return answer


def assert_close(got: Knowledge, wanted: Knowledge) -> None:
    """Equal but for the order of sums; float32, and without a graph."""
    assert len(got.features) == len(wanted.features)
    pairs = zip((got.logits, *got.features), (wanted.logits, *wanted.features), strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == torch.float32
        assert not ours.requires_grad
        scale = float(theirs.abs().max())
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(scale, 1e-3))


class Little(nn.Module):
    """Exported in a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.conv(x).relu().mean((2, 3)))
        return logits


class Untraceable(nn.Module):
    """A network that breaks every graph: what it does depends on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        if float(x.mean()) > 0:
            x = x * 2
        logits: Tensor = self.linear(x.relu().mean((2, 3)))
        return logits
