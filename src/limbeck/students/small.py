"""Very small networks, for grey or low-resolution images and for trying things out.

In a recipe: `py:limbeck.students.small:convnet` and `py:limbeck.students.small:mlp`. Every stage is a module
of its own (`stage1`, `stage2`, …) whose output can be tapped, and the classifier is `linear`.
"""

from collections import OrderedDict

from torch import nn

from limbeck.students._parts import at_least_one

__all__ = ["convnet", "mlp"]


def convnet(
    num_classes: int = 10, in_channels: int = 1, width: int = 16, depth: int = 2, batch_norm: bool = True
) -> nn.Sequential:
    """Stages of one 3x3 convolution, BatchNorm and ReLU; then global average pooling and a linear layer.

    Every stage after the first halves height and width and doubles the channels.

    Args:
        num_classes: number of classes.
        in_channels: channels of the images.
        width: channels of the first stage.
        depth: number of stages; images need at least 2 ** (depth - 1) pixels a side.
        batch_norm: leave BatchNorm out for a network without batch statistics.

    Returns:
        A network from [B, in_channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: an argument is below 1.
    """
    at_least_one(num_classes=num_classes, in_channels=in_channels, width=width, depth=depth)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    before = in_channels
    for number in range(depth):
        after = width * 2**number
        convolution = nn.Conv2d(before, after, 3, 1 if number == 0 else 2, padding=1, bias=not batch_norm)
        stage: list[nn.Module] = [convolution, *([nn.BatchNorm2d(after)] if batch_norm else []), nn.ReLU()]
        layers[f"stage{number + 1}"] = nn.Sequential(*stage)
        before = after
    layers["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    layers["linear"] = nn.Linear(before, num_classes)
    return nn.Sequential(layers)


def mlp(
    size: tuple[int, int], num_classes: int = 10, in_channels: int = 1, width: int = 64, depth: int = 1
) -> nn.Sequential:
    """Hidden linear layers with ReLU on the flattened image, and a linear classifier.

    Args:
        size: height and width of the images.
        num_classes: number of classes.
        in_channels: channels of the images.
        width: units of each hidden layer.
        depth: number of hidden layers.

    Returns:
        A network from [B, in_channels, H, W] to logits [B, num_classes].

    Raises:
        ValueError: an argument is below 1.
    """
    height, breadth = size
    at_least_one(height=height, width_of_image=breadth, num_classes=num_classes, in_channels=in_channels)
    at_least_one(width=width, depth=depth)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    before = in_channels * height * breadth
    for number in range(depth):
        layers[f"stage{number + 1}"] = nn.Sequential(nn.Linear(before, width), nn.ReLU())
        before = width
    layers["linear"] = nn.Linear(before, num_classes)
    return nn.Sequential(layers)
