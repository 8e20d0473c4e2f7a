"""The small network and the images that the export tests share."""

import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Two convolutions with BatchNorm, a shortcut, a pool and a linear head: a ResNet in little."""

    def __init__(self, width: int = 32, classes: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        x = (x + self.bn2(self.conv2(x))).relu()
        return self.linear(x.mean((2, 3)))


def images(count: int, seed: int) -> Tensor:
    """Images in [0, 1] that differ in colour and texture, [count, 3, 12, 12]."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(count, 3, 1, 1, generator=generator)
    return (colour + 0.3 * torch.randn(count, 3, 12, 12, generator=generator)).clamp(0, 1)
