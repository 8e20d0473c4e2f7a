"""The residual networks of He et al. for small images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck import models, weights
from limbeck.inputs import InputAdapter
from limbeck.students import cifar


@pytest.mark.parametrize(
    ("name", "depth", "millions"),
    [
        ("resnet20", 20, 0.27),
        ("resnet32", 32, 0.46),
        ("resnet44", 44, 0.66),
        ("resnet56", 56, 0.85),
        ("resnet110", 110, 1.7),
    ],
)
def test_depth_and_size_are_those_of_the_paper(name: str, depth: int, millions: float) -> None:
    """Table 6 of the paper, which counts the layers with weights outside the shortcuts."""
    with torch.device("meta"):
        net = getattr(cifar, name)()
    weighted = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weighted) == depth
    assert models.parameters(net) / 1e6 == pytest.approx(millions, abs=0.05 if depth == 110 else 0.006)


def test_option_b_adds_two_projections_and_option_a_none() -> None:
    pad, conv = cifar.resnet20(), cifar.resnet20(shortcut="conv")
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert models.parameters(conv) - models.parameters(pad) == projections
    assert set(pad.state_dict()) < set(conv.state_dict())


def test_pad_shortcut_takes_every_second_pixel_and_adds_zeros_on_both_sides() -> None:
    x = torch.arange(2 * 2 * 5 * 4, dtype=torch.float32).view(2, 2, 5, 4) + 1
    y = cifar.PadShortcut(2, 4, 2)(x)
    assert y.shape == (2, 4, 3, 2)
    assert not y[:, [0, 3]].any()
    for b, c, i, j in np.ndindex(2, 2, 3, 2):
        assert y[b, c + 1, i, j] == x[b, c, 2 * i, 2 * j]


@pytest.mark.parametrize("shortcut", ["pad", "conv"])
@pytest.mark.parametrize(("channels", "side"), [(3, 32), (1, 28), (1, 8), (3, 9), (2, 33)])
def test_any_channels_and_any_size_from_8_pixels(shortcut: cifar.Shortcut, channels: int, side: int) -> None:
    net = cifar.ResNet(8, num_classes=7, in_channels=channels, shortcut=shortcut)
    assert net(torch.rand(2, channels, side, side)).shape == (2, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 21}, "6n [+] 2"),
        ({"depth": 2}, "6n [+] 2"),
        ({"shortcut": "padd"}, '"pad" or "conv"'),
        ({"num_classes": 0}, "num_classes must be at least 1"),
        ({"width": 0}, "width must be at least 1"),
    ],
)
def test_arguments_outside_their_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cifar.ResNet(**arguments)  # type: ignore[arg-type]


def test_a_block_is_two_convolutions_and_the_shortcut() -> None:
    torch.manual_seed(0)
    block = cifar.Block(4, 8, 2, "conv").eval()
    x = torch.randn(2, 4, 6, 6)
    inner = torch.relu(block.bn1(block.conv1(x)))
    torch.testing.assert_close(block(x), torch.relu(block.bn2(block.conv2(inner)) + block.shortcut(x)))


def test_every_output_of_a_module_survives_the_rest_of_the_pass() -> None:
    """No operation in place, so that any layer can be tapped."""
    net = cifar.ResNet(8).eval()
    seen: list[tuple[Tensor, Tensor]] = []
    for module in net.modules():
        module.register_forward_hook(lambda _m, _i, out: seen.append((out, out.clone())))
    net(torch.rand(1, 3, 8, 8))
    assert len(seen) > 20
    assert all(torch.equal(now, then) for now, then in seen)


def test_the_same_seed_gives_the_same_network() -> None:
    nets = []
    for _ in range(2):
        torch.manual_seed(3)
        nets.append(cifar.resnet20())
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "correct"),
    [("resnet20", 9173), ("resnet32", 9263), ("resnet44", 9310), ("resnet56", 9339)],
)
def test_published_checkpoints_score_exactly_what_is_published(
    name: str, correct: int, data_root: Path
) -> None:
    images, labels = _test_split(data_root)
    built = models.build(
        f"cifar:{name}", classes=10, channels=3, size=(32, 32), options={"shortcut": "pad"}, where="teacher"
    )
    file = next((data_root / "weights").glob(f"{name}-*.th"))
    weights.load(built.model, file, where="teacher.weights")
    net = nn.Sequential(InputAdapter(built.input, channels=3), built.model).eval()
    net.to(memory_format=torch.channels_last)
    right = 0
    with torch.inference_mode():
        for start in range(0, 10000, 500):
            x = images[start : start + 500].float().div(255).to(memory_format=torch.channels_last)
            right += int((net(x).argmax(1) == labels[start : start + 500]).sum())
    assert right == correct


def _test_split(root: Path) -> tuple[Tensor, Tensor]:
    """The official binary file, read here by hand so that this test rests on nothing else."""
    file = root / "cifar-10-batches-bin" / "test_batch.bin"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    rows = torch.from_numpy(np.fromfile(file, dtype=np.uint8).reshape(10000, 3073))
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].long()
