"""MobileNetV2 for small images.

Sandler, Howard, Zhu, Zhmoginov, Chen (2018): MobileNetV2: Inverted Residuals and Linear Bottlenecks,
https://arxiv.org/abs/1801.04381; as the distillation protocol of Tian et al. (2020),
https://arxiv.org/abs/1910.10699, adapts it to 32x32 pixels and half the width.

A 3x3 convolution of stride 2 (`conv1`, `bn1`), seven stages of inverted residual blocks (`layer1` to
`layer7`; the rows of the paper's table 2), a 1x1 convolution to 1280 channels (`conv2`, `bn2`, `relu`),
global average pooling and one linear layer (`linear`, whose input is the embedding of 1280 values). An
inverted residual block widens by a 1x1 convolution, filters by a 3x3 convolution of each channel by itself,
and narrows by a 1x1 convolution without ReLU; it adds its input where the shape stays.

Against the paper's table 2 the stage `layer2` keeps height and width, so that at 32x32 pixels the stages see
16, 16, 8, 4, 4, 2 and 2 pixels a side (`layer2`, `layer3`, `layer5`, `layer7` are the last of each size); the
activation is ReLU and not ReLU6; and there is no dropout. The last convolution keeps its 1280 channels at
widths below 1, as the paper says, and the first block has its widening convolution too (as in the paper's
table 1) although its expansion is 1. The paper does not say how weights start: here as in He et al. (2015).

Parameters at half width and 100 classes: 0.81 million, as published with the protocol.

No operation works in place, so every module's output can be tapped.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.students._parts import at_least_one, he_initial

__all__ = ["MobileNetV2", "mobilenetv2"]

LAST = 1280


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow: x + f(x) where the shape stays, else f(x)."""

    def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.adds = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        narrow: Tensor = self.bn3(self.conv3(inner))
        return x + narrow if self.adds else narrow


class MobileNetV2(nn.Module):
    """The network of seven stages.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.
        width: the paper's width multiplier, > 0; channels are rounded to whole numbers.
        expansion: how many times wider a block is inside, in every stage but the first.

    Raises:
        ValueError: an argument is outside these ranges.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, width: float = 0.5, expansion: int = 6
    ) -> None:
        super().__init__()
        at_least_one(num_classes=num_classes, in_channels=in_channels, expansion=expansion)
        if round(16 * width) < 1:
            raise ValueError(f"width must leave at least one of 16 channels, got {width}")
        stem, *after = (round(width * c) for c in (32, 16, 24, 32, 64, 96, 160, 320))
        last = max(LAST, round(width * LAST))
        self.conv1 = nn.Conv2d(in_channels, stem, 3, 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.layer1 = _stage(stem, after[0], 1, 1, 1)
        self.layer2 = _stage(after[0], after[1], 2, 1, expansion)
        self.layer3 = _stage(after[1], after[2], 3, 2, expansion)
        self.layer4 = _stage(after[2], after[3], 4, 2, expansion)
        self.layer5 = _stage(after[3], after[4], 3, 1, expansion)
        self.layer6 = _stage(after[4], after[5], 3, 2, expansion)
        self.layer7 = _stage(after[5], after[6], 1, 1, expansion)
        self.conv2 = nn.Conv2d(after[6], last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.relu = nn.ReLU()  # a module, so that the map that is averaged can be tapped
        self.linear = nn.Linear(last, num_classes)
        he_initial(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.layer5(self.layer4(x))
        x = self.layer7(self.layer6(x))
        x = self.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(before: int, after: int, blocks: int, stride: int, expansion: int) -> nn.Sequential:
    first = InvertedResidual(before, after, stride, expansion)
    return nn.Sequential(first, *(InvertedResidual(after, after, 1, expansion) for _ in range(blocks - 1)))


def mobilenetv2(num_classes: int = 10, in_channels: int = 3, width: float = 0.5) -> MobileNetV2:
    """MobileNetV2 of half width; 0.81 million parameters at 100 classes."""
    return MobileNetV2(num_classes, in_channels, width)
