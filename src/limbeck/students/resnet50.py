"""ResNet-50 for small images.

He, Zhang, Ren, Sun (2015): Deep Residual Learning for Image Recognition, table 1,
https://arxiv.org/abs/1512.03385; as the distillation protocol of Tian et al. (2020),
https://arxiv.org/abs/1910.10699, adapts it to 32x32 pixels.

A 3x3 convolution of stride 1 and 64 channels (`conv1`, `bn1`) without max pooling, where the paper has a 7x7
convolution of stride 2 and max pooling; four stages (`layer1` to `layer4`) of 3, 4, 6 and 3 bottleneck
blocks with 256, 512, 1024 and 2048 channels, all but the first halving height and width; global average
pooling and one linear layer (`linear`, whose input is the embedding of 2048 values). A block halves in its
3x3 convolution (the paper: in its first 1x1 convolution); where it changes the shape, its shortcut is a 1x1
convolution and BatchNorm (option B). Weights start as the paper that this one cites says
(https://arxiv.org/abs/1502.01852).

Parameters at 100 classes: 23.71 million, as published with the protocol.

No operation works in place, so every module's output can be tapped, and a stage before its last ReLU
(`layer1.2.relu:in`).
"""

from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.students._parts import at_least_one, he_initial

__all__ = ["ResNet50", "resnet50"]

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution and a shortcut: relu(f(x) + shortcut(x)).

    Args:
        before: channels coming in.
        inner: channels of the 3x3 convolution; four times as many go out.
        stride: 1 or 2.
    """

    def __init__(self, before: int, inner: int, stride: int) -> None:
        super().__init__()
        after = EXPANSION * inner
        self.conv1 = nn.Conv2d(before, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if before != after or stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )
        self.relu = nn.ReLU()  # a module, so that the sum that enters it can be tapped

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        active: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.shortcut(x))
        return active


class ResNet50(nn.Module):
    """The network of 50 layers.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        at_least_one(num_classes=num_classes, in_channels=in_channels)
        self.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer4 = _stage(1024, 512, 3, 2)
        self.linear = nn.Linear(2048, num_classes)
        he_initial(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(before: int, inner: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(before, inner, stride)
    return nn.Sequential(first, *(Bottleneck(EXPANSION * inner, inner, 1) for _ in range(blocks - 1)))


def resnet50(num_classes: int = 10, in_channels: int = 3) -> ResNet50:
    """50 layers of bottleneck blocks; 23.71 million parameters at 100 classes."""
    return ResNet50(num_classes, in_channels)
