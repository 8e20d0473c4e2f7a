"""Residual networks for small images.

He, Zhang, Ren, Sun (2015): Deep Residual Learning for Image Recognition, section 4.2,
https://arxiv.org/abs/1512.03385.

A 3x3 convolution, three stages of n blocks of two 3x3 convolutions with 16, 32 and 64 channels (the second
and third stage halve the height and width in their first convolution), global average pooling, one linear
layer: 6n + 2 weighted layers. Where a block changes the shape, its shortcut is, in the words of the paper,

- option A (`shortcut: pad`, the paper's choice on CIFAR-10): identity. Every second pixel is taken and the
  new channels are zero, half of them before and half behind the old ones, so it costs no parameter;
- option B (`shortcut: conv`): a 1x1 convolution and BatchNorm.

No operation works in place, so every module's output can be tapped. Module names (`conv1`, `bn1`,
`layer1.0.conv1`, …, `linear`) are those of the checkpoints in circulation.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResNet", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"]

Shortcut = Literal["pad", "conv"]


class PadShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the channels that are new.

    Args:
        before: channels coming in.
        after: channels going out, at least `before`.
        stride: 1 or 2.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.low = (after - before) // 2
        self.high = after - before - self.low

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.low, self.high))


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut: relu(f(x) + shortcut(x))."""

    def __init__(self, before: int, after: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module
        if before == after and stride == 1:
            self.shortcut = nn.Identity()
        elif shortcut == "pad":
            self.shortcut = PadShortcut(before, after, stride)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """The network of 6n + 2 layers.

    Args:
        depth: number of weighted layers, 6n + 2 with n >= 1 (8, 14, 20, …).
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.
        shortcut: "pad" (option A) or "conv" (option B).
        width: channels of the first stage; the paper's is 16.

    Raises:
        ValueError: an argument is outside these ranges.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: Shortcut = "pad",
        width: int = 16,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, …), got {depth}")
        if shortcut not in ("pad", "conv"):
            raise ValueError(f'shortcut must be "pad" or "conv", got {shortcut!r}')
        for name, value in (("num_classes", num_classes), ("in_channels", in_channels), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(width, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, num_classes)
        self._initialise()

    def _initialise(self) -> None:
        """The initial weights that the paper cites (He et al. 2015, https://arxiv.org/abs/1502.01852)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(before: int, after: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = Block(before, after, stride, shortcut)
    return nn.Sequential(first, *(Block(after, after, 1, shortcut) for _ in range(blocks - 1)))


def resnet20(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """20 layers; .27 million parameters at 10 classes; 8.75 % error on CIFAR-10 in the paper."""
    return ResNet(20, num_classes, in_channels, shortcut, width)


def resnet32(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """32 layers; .46 million parameters; 7.51 % error on CIFAR-10 in the paper."""
    return ResNet(32, num_classes, in_channels, shortcut, width)


def resnet44(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """44 layers; .66 million parameters; 7.17 % error on CIFAR-10 in the paper."""
    return ResNet(44, num_classes, in_channels, shortcut, width)


def resnet56(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """56 layers; .85 million parameters; 6.97 % error on CIFAR-10 in the paper."""
    return ResNet(56, num_classes, in_channels, shortcut, width)


def resnet110(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """110 layers; 1.7 million parameters; 6.43 % error on CIFAR-10 in the paper."""
    return ResNet(110, num_classes, in_channels, shortcut, width)
