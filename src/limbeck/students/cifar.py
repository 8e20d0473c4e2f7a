"""Residual networks for small images.

He, Zhang, Ren, Sun (2015): Deep Residual Learning for Image Recognition, section 4.2,
https://arxiv.org/abs/1512.03385.

A 3x3 convolution, three stages of n blocks of two 3x3 convolutions with 16, 32 and 64 channels (the second
and third stage halve the height and width in their first convolution), global average pooling, one linear
layer: 6n + 2 weighted layers. The stages are `layer1`, `layer2` and `layer3`; the input of `linear` is the
embedding. Where a block changes the shape, its shortcut is, in the words of the paper,

- option A (`shortcut: pad`, the paper's choice on CIFAR-10): identity. Every second pixel is taken and the
  new channels are zero, half of them before and half behind the old ones, so it costs no parameter;
- option B (`shortcut: conv`): a 1x1 convolution and BatchNorm.

The distillation protocol of Tian et al. (2020): Contrastive Representation Distillation,
https://arxiv.org/abs/1910.10699, takes option B throughout; the default here is the paper's. Parameters at
100 classes, in millions, as published with the protocol and met with `shortcut: conv`: resnet20 0.28,
resnet32 0.47, resnet56 0.86, resnet110 1.74, and of the networks four times as wide, whose stem has 32
channels and whose stages have 64, 128 and 256, resnet8x4 1.23 and resnet32x4 7.43.

No operation works in place, so every module's output can be tapped, and a stage before its last ReLU
(`layer1.2.relu:in`). Module names (`conv1`, `bn1`,
`layer1.0.conv1`, …, `linear`) are those of the checkpoints in circulation.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.students._parts import at_least_one, he_initial

__all__ = [
    "ResNet",
    "resnet8",
    "resnet8x4",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet32x4",
    "resnet44",
    "resnet56",
    "resnet110",
]

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
        self.relu = nn.ReLU()  # a module, so that the sum that enters it can be tapped

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        active: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))
        return active


class ResNet(nn.Module):
    """The network of 6n + 2 layers.

    Args:
        depth: number of weighted layers, 6n + 2 with n >= 1 (8, 14, 20, …).
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.
        shortcut: "pad" (option A) or "conv" (option B).
        width: channels of the first stage; the paper's is 16.
        stem: channels of the first convolution; as many as `width` where None, which is the paper's.

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
        stem: int | None = None,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, …), got {depth}")
        if shortcut not in ("pad", "conv"):
            raise ValueError(f'shortcut must be "pad" or "conv", got {shortcut!r}')
        stem = width if stem is None else stem
        at_least_one(num_classes=num_classes, in_channels=in_channels, width=width, stem=stem)
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, width, blocks, 1, shortcut)
        self.layer2 = _stage(width, 2 * width, blocks, 2, shortcut)
        self.layer3 = _stage(2 * width, 4 * width, blocks, 2, shortcut)
        self.linear = nn.Linear(4 * width, num_classes)
        he_initial(self)  # which the paper cites

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(before: int, after: int, blocks: int, stride: int, shortcut: Shortcut) -> nn.Sequential:
    first = Block(before, after, stride, shortcut)
    return nn.Sequential(first, *(Block(after, after, 1, shortcut) for _ in range(blocks - 1)))


def resnet8(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """8 layers, one block a stage; .08 million parameters at 10 classes."""
    return ResNet(8, num_classes, in_channels, shortcut, width)


def resnet14(
    num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "pad", width: int = 16
) -> ResNet:
    """14 layers; .17 million parameters at 10 classes."""
    return ResNet(14, num_classes, in_channels, shortcut, width)


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


def resnet8x4(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "conv") -> ResNet:
    """8 layers, four times as wide behind a stem of 32; 1.23 million parameters at 100 classes."""
    return ResNet(8, num_classes, in_channels, shortcut, width=64, stem=32)


def resnet32x4(num_classes: int = 10, in_channels: int = 3, shortcut: Shortcut = "conv") -> ResNet:
    """32 layers, four times as wide behind a stem of 32; 7.43 million parameters at 100 classes."""
    return ResNet(32, num_classes, in_channels, shortcut, width=64, stem=32)
