"""ShuffleNets for small images.

Zhang, Zhou, Lin, Sun (2017): ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile
Devices, https://arxiv.org/abs/1707.01083; Ma, Zhang, Zheng, Sun (2018): ShuffleNet V2: Practical Guidelines
for Efficient CNN Architecture Design, https://arxiv.org/abs/1807.11164; as the distillation protocol of Tian
et al. (2020), https://arxiv.org/abs/1910.10699, adapts them to 32x32 pixels.

Both: a convolution to 24 channels (`conv1`, `bn1`), three stages (`layer1`, `layer2`, `layer3`) of 4, 8 and 4
units whose first one halves height and width, global average pooling and one linear layer (`linear`). The
stem is a 1x1 convolution of stride 1 without max pooling, where the papers have a 3x3 convolution of stride 2
and max pooling; at 32x32 pixels the stages end with 16, 8 and 4 pixels a side.

- Version 1, three groups: 240, 480 and 960 channels; the embedding is the last stage's 960. The first unit
  of a stage joins its own channels and its averaged input; its bottleneck has a quarter of its own channels
  (54, 60 and 120), where a quarter of all that go out (60, 120 and 240) would make a network of 1.00 million
  parameters. A ReLU follows the convolution of single channels; the paper has none there.
- Version 2, size 1: 116, 232 and 464 channels, then a 1x1 convolution to 1024 (`conv2`, `bn2`, `relu`),
  whose average is the embedding.

The papers do not say how weights start: here as in He et al. (2015).

Parameters at 100 classes, as published with the protocol: version 1 0.95 million, version 2 1.36.

No operation works in place, so every module's output can be tapped.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.students._parts import at_least_one, he_initial

__all__ = ["ShuffleNetV1", "ShuffleNetV2", "shufflenetv1", "shufflenetv2"]

STEM = 24
GROUPS = 3


class UnitV1(nn.Module):
    """Grouped 1x1 convolution, shuffle, 3x3 convolution of single channels, grouped 1x1 convolution.

    With stride 1 the input is added; with stride 2 its average over 3x3 pixels is joined behind, so that the
    unit itself makes `after - before` channels.

    Args:
        before: channels coming in.
        after: channels going out.
        stride: 1 or 2.
        groups: of the first convolution; the last one always has three.
    """

    def __init__(self, before: int, after: int, stride: int, groups: int = GROUPS) -> None:
        super().__init__()
        own = after - before if stride == 2 else after
        inner = own // 4
        self.conv1 = nn.Conv2d(before, inner, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.shuffle = nn.ChannelShuffle(groups)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, own, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(own)
        self.pool = nn.AvgPool2d(3, 2, padding=1) if stride == 2 else None
        self.relu = nn.ReLU()  # a module, so that what enters it can be tapped

    def forward(self, x: Tensor) -> Tensor:
        inner = self.shuffle(F.relu(self.bn1(self.conv1(x))))
        inner = F.relu(self.bn2(self.conv2(inner)))
        own = self.bn3(self.conv3(inner))
        active: Tensor = self.relu(own + x if self.pool is None else torch.cat((own, self.pool(x)), 1))
        return active


class BranchV2(nn.Module):
    """1x1 convolution, ReLU, 3x3 convolution of single channels, 1x1 convolution.

    The ReLU that follows is the unit's last step, behind the shuffle, so that what enters it can be tapped.
    Channels that come past the branch are rectified already, and stay as they are.
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, padding=1, groups=after, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.conv3 = nn.Conv2d(after, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        passed: Tensor = self.bn3(self.conv3(self.bn2(self.conv2(inner))))
        return passed


class UnitV2(nn.Module):
    """Stride 1: half of the channels pass as they are and half through the branch; joined and shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = BranchV2(channels // 2, channels // 2, 1)
        self.shuffle = nn.ChannelShuffle(2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        kept, passed = x.chunk(2, 1)
        joined: Tensor = self.relu(self.shuffle(torch.cat((kept, self.branch(passed)), 1)))
        return joined


class DownV2(nn.Module):
    """Stride 2: all channels pass through a short branch and through the long one; joined and shuffled."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.short = nn.Sequential(
            nn.Conv2d(before, before, 3, 2, padding=1, groups=before, bias=False),
            nn.BatchNorm2d(before),
            nn.Conv2d(before, after // 2, 1, bias=False),
            nn.BatchNorm2d(after // 2),
        )
        self.branch = BranchV2(before, after // 2, 2)
        self.shuffle = nn.ChannelShuffle(2)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.relu(self.shuffle(torch.cat((self.short(x), self.branch(x)), 1)))
        return joined


class ShuffleNetV1(nn.Module):
    """Version 1 with three groups.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        at_least_one(num_classes=num_classes, in_channels=in_channels)
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage_v1(STEM, 240, 4, groups=1)  # the paper: too few channels come in to be split
        self.layer2 = _stage_v1(240, 480, 8)
        self.layer3 = _stage_v1(480, 960, 4)
        self.linear = nn.Linear(960, num_classes)
        he_initial(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class ShuffleNetV2(nn.Module):
    """Version 2 of size 1.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        at_least_one(num_classes=num_classes, in_channels=in_channels)
        self.conv1 = nn.Conv2d(in_channels, STEM, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.layer1 = _stage_v2(STEM, 116, 4)
        self.layer2 = _stage_v2(116, 232, 8)
        self.layer3 = _stage_v2(232, 464, 4)
        self.conv2 = nn.Conv2d(464, 1024, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu = nn.ReLU()  # a module, so that the map that is averaged can be tapped
        self.linear = nn.Linear(1024, num_classes)
        he_initial(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage_v1(before: int, after: int, units: int, groups: int = GROUPS) -> nn.Sequential:
    first = UnitV1(before, after, 2, groups)
    return nn.Sequential(first, *(UnitV1(after, after, 1) for _ in range(units - 1)))


def _stage_v2(before: int, after: int, units: int) -> nn.Sequential:
    return nn.Sequential(DownV2(before, after), *(UnitV2(after) for _ in range(units - 1)))


def shufflenetv1(num_classes: int = 10, in_channels: int = 3) -> ShuffleNetV1:
    """ShuffleNet with three groups; 0.95 million parameters at 100 classes."""
    return ShuffleNetV1(num_classes, in_channels)


def shufflenetv2(num_classes: int = 10, in_channels: int = 3) -> ShuffleNetV2:
    """ShuffleNet V2 of size 1; 1.36 million parameters at 100 classes."""
    return ShuffleNetV2(num_classes, in_channels)
