"""VGG networks for small images.

Simonyan, Zisserman (2014): Very Deep Convolutional Networks for Large-Scale Image Recognition,
https://arxiv.org/abs/1409.1556; as the distillation protocol of Tian et al. (2020),
https://arxiv.org/abs/1910.10699, adapts them to 32x32 pixels.

Five stages (`layer1` to `layer5`) of 3x3 convolutions (with bias), BatchNorm and ReLU with 64, 128, 256, 512
and 512 channels; 2x2 max pooling after the first three (`pool1`, `pool2`, `pool3`), so that the last two
both see 4x4 pixels; global average pooling and one linear layer (`linear`, whose input is the embedding of
512 values). The paper has five max poolings, no BatchNorm and three linear layers. Weights start as the
paper recommends in section 3.1, after Glorot and Bengio (2010): uniform, biases zero.

Parameters at 100 classes, as published with the protocol: vgg8 3.96 million (3,965,028, cut off and not
rounded), vgg13 9.46.

No operation works in place, so every module's output can be tapped.
"""

from torch import Tensor, nn

from limbeck.students._parts import at_least_one

__all__ = ["VGG", "vgg8", "vgg13"]

CHANNELS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five stages of convolutions and a linear layer.

    Args:
        convolutions: how many each stage holds; 1 for vgg8 of the protocol, 2 for vgg13.
        num_classes: number of classes.
        in_channels: channels of the images, 3 for colour and 1 for grey.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(self, convolutions: int = 1, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        at_least_one(convolutions=convolutions, num_classes=num_classes, in_channels=in_channels)
        self.layer1 = _stage(in_channels, CHANNELS[0], convolutions)
        self.pool1 = nn.MaxPool2d(2)
        self.layer2 = _stage(CHANNELS[0], CHANNELS[1], convolutions)
        self.pool2 = nn.MaxPool2d(2)
        self.layer3 = _stage(CHANNELS[1], CHANNELS[2], convolutions)
        self.pool3 = nn.MaxPool2d(2)
        self.layer4 = _stage(CHANNELS[2], CHANNELS[3], convolutions)
        self.layer5 = _stage(CHANNELS[3], CHANNELS[4], convolutions)
        self.linear = nn.Linear(CHANNELS[4], num_classes)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, num_classes] of images [B, in_channels, H, W], H and W at least 8 pixels."""
        x = self.pool1(self.layer1(x))
        x = self.pool2(self.layer2(x))
        x = self.pool3(self.layer3(x))
        x = self.layer5(self.layer4(x))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(before: int, after: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convolutions):
        convolution = nn.Conv2d(before if number == 0 else after, after, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def vgg8(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """One convolution a stage; 3.97 million parameters at 100 classes."""
    return VGG(1, num_classes, in_channels)


def vgg13(num_classes: int = 10, in_channels: int = 3) -> VGG:
    """Two convolutions a stage; 9.46 million parameters at 100 classes."""
    return VGG(2, num_classes, in_channels)
