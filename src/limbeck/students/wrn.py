"""Wide residual networks for small images.

Zagoruyko, Komodakis (2016): Wide Residual Networks, https://arxiv.org/abs/1605.07146.

WRN-d-k: a 3x3 convolution of 16 channels (`conv1`), three stages (`layer1`, `layer2`, `layer3`) of
n = (d - 4) / 6 blocks with 16k, 32k and 64k channels (the second and third halve height and width in their
first block), BatchNorm (`bn`) and ReLU (`relu`), global average pooling, one linear layer (`linear`, whose
input is the embedding of 64k values).

A block is pre-activated: BatchNorm, ReLU, 3x3 convolution, BatchNorm, ReLU, 3x3 convolution, added to the
shortcut. A stage's output is therefore not rectified yet; the embedding is. Where a block changes the shape,
its shortcut is a 1x1 convolution of the activated input, without BatchNorm. Weights start as the paper of He
et al. (2015) says.

Parameters at 100 classes, as published with the distillation protocol of Tian et al. (2020),
https://arxiv.org/abs/1910.10699: WRN-16-1 0.18 million, 16-2 0.70, 40-1 0.57, 40-2 2.26.

No operation works in place, so every module's output can be tapped.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.students._parts import at_least_one, he_initial

__all__ = ["WideResNet", "wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2"]


class Block(nn.Module):
    """Two pre-activated 3x3 convolutions, dropout between them, and a shortcut."""

    def __init__(self, before: int, after: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if before != after or stride != 1:
            self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        inner = self.dropout(F.relu(self.bn2(self.conv1(active))))
        residual: Tensor = self.conv2(inner)
        return residual + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """The network WRN-depth-widen.

    Args:
        depth: 6n + 4 with n >= 1 (10, 16, 22, 28, 40, …).
        widen: the paper's k: how many times wider than 16, 32 and 64 channels the stages are.
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.
        dropout: share of values that each block drops between its convolutions in training, 0 <= . < 1.

    Raises:
        ValueError: an argument is outside these ranges.
    """

    def __init__(
        self,
        depth: int = 16,
        widen: int = 2,
        num_classes: int = 10,
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, …), got {depth}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        at_least_one(widen=widen, num_classes=num_classes, in_channels=in_channels)
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.layer1 = _stage(16, 16 * widen, blocks, 1, dropout)
        self.layer2 = _stage(16 * widen, 32 * widen, blocks, 2, dropout)
        self.layer3 = _stage(32 * widen, 64 * widen, blocks, 2, dropout)
        self.bn = nn.BatchNorm2d(64 * widen)
        self.relu = nn.ReLU()  # a module, so that the map that is averaged can be tapped
        self.linear = nn.Linear(64 * widen, num_classes)
        he_initial(self)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        logits: Tensor = self.linear(self.relu(self.bn(x)).mean((2, 3)))
        return logits


def _stage(before: int, after: int, blocks: int, stride: int, dropout: float) -> nn.Sequential:
    first = Block(before, after, stride, dropout)
    return nn.Sequential(first, *(Block(after, after, 1, dropout) for _ in range(blocks - 1)))


def wrn_16_1(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-16-1; 0.18 million parameters at 100 classes."""
    return WideResNet(16, 1, num_classes, in_channels, dropout)


def wrn_16_2(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-16-2; 0.70 million parameters at 100 classes."""
    return WideResNet(16, 2, num_classes, in_channels, dropout)


def wrn_40_1(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-40-1; 0.57 million parameters at 100 classes."""
    return WideResNet(40, 1, num_classes, in_channels, dropout)


def wrn_40_2(num_classes: int = 10, in_channels: int = 3, dropout: float = 0.0) -> WideResNet:
    """WRN-40-2; 2.26 million parameters at 100 classes."""
    return WideResNet(40, 2, num_classes, in_channels, dropout)
