"""What stands between the pixels of a batch and a network: each network resizes and normalises for itself.

A batch carries images as float32 in [0, 1]. Teacher and student see the very same crop, each through its own
`InputAdapter`: first the size, then grey to colour or colour to grey, then the normalisation. The adapter has
no parameters and no state, so it adds nothing to a checkpoint; parts that would change nothing are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.errors import InputError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "InputAdapter", "InputSpec", "per_channel"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in the brightness (ITU-R BT.601): what a grey network sees of colours."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a network expects; None means: as the data are.

    Attributes:
        mean: subtracted from each channel, in the scale of [0, 1]; one value for all or one per channel.
        std: what each channel is then divided by; likewise.
        size: side of the square that images are resized to, in pixels.
        channels: number of channels, usually 1 or 3.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    channels: int | None = None

    def override(self, other: "InputSpec | None") -> "InputSpec":
        """This specification with every value that `other` gives put in the place of its own."""
        if other is None:
            return self
        mine = {f.name: getattr(self, f.name) for f in fields(self)}
        given = {f.name: getattr(other, f.name) for f in fields(other)}
        return InputSpec(**{name: mine[name] if value is None else value for name, value in given.items()})


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """Published statistics of colour images for a network with so many input channels.

    As they are where the numbers agree; else their average in each channel.
    """
    if len(values) == channels:
        return tuple(values)
    return (round(sum(values) / len(values), 6),) * channels


class InputAdapter(nn.Module):
    """Turns raw pixels into what one network expects.

    Args:
        spec: what the network expects.
        channels: number of channels of the data.
        where: place in the recipe, for messages.

    Raises:
        InputError: the number of channels cannot be adapted, or mean, std or size make no sense.
    """

    def __init__(self, spec: InputSpec, *, channels: int, where: str = "input") -> None:
        super().__init__()
        wanted = channels if spec.channels is None else spec.channels
        if wanted != channels and {wanted, channels} != {1, 3}:
            raise InputError(
                f"{where}.channels: images of {channels} channels cannot be shown to a network of {wanted}. "
                "Allowed: the same number, grey to colour (1 to 3), colour to grey (3 to 1)."
            )
        if spec.size is not None and spec.size < 1:
            raise InputError(f"{where}.size: must be at least 1 pixel, got {spec.size}.")
        mean = _statistic(spec.mean, 0.0, wanted, f"{where}.mean")
        std = _statistic(spec.std, 1.0, wanted, f"{where}.std")
        if min(std) <= 0:
            raise InputError(f"{where}.std: every value must be above 0, got {list(std)}.")
        self.size = spec.size
        self.channels = wanted
        self.given_channels = channels
        self.normalises = any(m != 0 for m in mean) or any(s != 1 for s in std)
        self.scale: Tensor
        self.shift: Tensor
        self.luma: Tensor
        self._constant("scale", [1 / s for s in std])
        self._constant("shift", [-m / s for m, s in zip(mean, std, strict=True)])
        self._constant("luma", LUMA)

    def _constant(self, name: str, values: Sequence[float]) -> None:
        self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Adapt images.

        Args:
            x: [B, C, H, W], float in [0, 1], C as given to the constructor.

        Returns:
            [B, channels, size, size] (height and width as given where `size` is None), normalised.
        """
        if self.size is not None and (x.shape[-2] != self.size or x.shape[-1] != self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        if self.channels < self.given_channels:
            x = (x * self.luma).sum(1, keepdim=True)
        elif self.channels > self.given_channels:
            x = x.expand(-1, self.channels, -1, -1)
        return torch.addcmul(self.shift, x, self.scale) if self.normalises else x

    def extra_repr(self) -> str:
        return (
            f"size={self.size}, channels={self.given_channels}->{self.channels}, normalises={self.normalises}"
        )


def _statistic(
    values: tuple[float, ...] | None, default: float, channels: int, where: str
) -> tuple[float, ...]:
    """One finite value per channel."""
    if values is None:
        return (default,) * channels
    if not all(math.isfinite(v) for v in values):
        raise InputError(f"{where}: must be finite, got {list(values)}.")
    if len(values) not in (1, channels):
        raise InputError(
            f"{where}: must hold 1 value or one for each of {channels} channels, got {list(values)}."
        )
    return values * channels if len(values) == 1 else values
