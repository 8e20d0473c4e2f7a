"""A student with exits on the way: what the scheme `own`, kind `exits`, trains and ships.

L. Zhang, J. Song, A. Gao, J. Chen, C. Bao, K. Ma, Be Your Own Teacher: Improve the Performance of
Convolutional Neural Networks via Self Distillation, ICCV 2019, https://arxiv.org/abs/1905.08094.

The network itself is left as it is, and its own answer is the deepest exit's. At the end of each earlier
stage stands an exit: a bottleneck that brings the stage's map to the size and width of the last one, the mean
over places, and a linear classifier.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.knowledge import Knowledge
from limbeck.methods._layers import conv, linear
from limbeck.students._notes import Notes
from limbeck.taps import Tapped

__all__ = ["AtExit", "Exit", "ExitNotes", "Exits"]

NARROWER = 4
"""By how much a bottleneck is narrower inside than what it answers (He et al. 2016)."""


@dataclass(frozen=True, slots=True)
class ExitNotes(Notes):
    """All that is needed to put exits on a network again.

    Attributes:
        taps: the map at the end of each stage, from shallow to deep; no exit stands at the last.
        channels: of each of these maps.
        halvings: how often each exit halves height and width, one number for each map but the last.
        classes: logits of each exit.
        batch_norm: whether BatchNorm stands in the bottlenecks, as in a network that has it; else they have
            GroupNorm of one group, which no other sample of the batch has a say in.
    """

    kind: ClassVar[str] = "exits"
    told: ClassVar[str] = "has exits of its own"

    taps: tuple[str, ...]
    channels: tuple[int, ...]
    halvings: tuple[int, ...]
    classes: int
    batch_norm: bool


class Exit(nn.Module):
    """A way out of a network: bottleneck, mean over places, classifier.

    Args:
        inputs: channels of the map that it takes.
        width: channels of the map that it makes of it.
        halvings: how often it halves height and width; 0 keeps them.
        classes: number of its logits.
        batch_norm: as of `ExitNotes`.
        generator: the only source of its initial values.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        halvings: int,
        classes: int,
        batch_norm: bool,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        blocks, before = max(1, halvings), inputs
        for block in range(1, blocks + 1):
            # Widths grow by the same factor from block to block.
            after = width if block == blocks else round(inputs * (width / inputs) ** (block / blocks))
            inside = max(1, after // NARROWER)
            stride = 2 if halvings else 1
            for into, out, size, step in (
                (before, inside, 1, 1),
                (inside, inside, 3, stride),
                (inside, after, 1, 1),
            ):
                norm = nn.BatchNorm2d(out) if batch_norm else nn.GroupNorm(1, out)
                layers += [conv(into, out, size, generator, stride=step), norm, nn.ReLU()]
            before = after
        self.bottleneck = nn.Sequential(*layers)
        self.linear = linear(width, classes, generator, gain="linear")

    def forward(self, map: Tensor) -> Knowledge:
        """Its answer to a map [B, inputs, H, W]: logits, and its feature, the mean of its own map."""
        feature = self.bottleneck(map).mean((2, 3))
        return Knowledge(self.linear(feature), (feature,))


class Exits(nn.Module):
    """A network with exits. Asked as any network is, it answers what the network does, and no exit runs.

    Args:
        student: the plain network.
        notes: where exits stand.
        generator: for their initial values.

    Raises:
        ValueError: the network has no such layers, or the notes contradict themselves.
    """

    def __init__(self, student: nn.Module, notes: ExitNotes, generator: torch.Generator) -> None:
        super().__init__()
        if not len(notes.taps) == len(notes.channels) == len(notes.halvings) + 1 > 1:
            raise ValueError(f"{len(notes.taps)} stages cannot have {len(notes.halvings)} exits.")
        self.notes = notes
        self.trunk = Tapped(student, notes.taps, who="student")
        width = notes.channels[-1]
        self.exits = nn.ModuleList(
            Exit(inputs, width, halvings, notes.classes, notes.batch_norm, generator)
            for inputs, halvings in zip(notes.channels[:-1], notes.halvings, strict=True)
        )

    def forward(self, input: Tensor) -> Tensor:
        """The network's own logits [B, classes]."""
        logits: Tensor = self.trunk.model(input)
        return logits

    def every(self, input: Tensor) -> list[Knowledge]:
        """The answer of each exit, from shallow to deep, and last the network's own.

        Returns:
            Logits [B, classes], and one feature [B, width]; the network's is its last map's mean over places.
        """
        deepest = self.trunk(input)
        maps = deepest.features
        found: list[Knowledge] = [exit(map) for exit, map in zip(self.exits, maps, strict=False)]
        return [*found, Knowledge(deepest.logits, (maps[-1].mean((2, 3)),))]

    @property
    def names(self) -> list[str]:
        """What the exits are called, from shallow to deep."""
        return [f"exit-{number}" for number in range(1, len(self.exits) + 1)]


class AtExit(nn.Module):
    """One exit as a network of its own.

    In torch the network behind it runs on, for nobody; an exported file has nothing behind the exit.

    Args:
        whole: the network with its exits.
        number: which of them, from 0.
    """

    def __init__(self, whole: Exits, number: int) -> None:
        super().__init__()
        self.whole = whole
        self.number = number

    def forward(self, input: Tensor) -> Tensor:
        """Its logits [B, classes]."""
        map = self.whole.trunk(input).features[self.number]
        logits: Tensor = self.whole.exits[self.number](map).logits
        return logits


def halvings(side: int, last: int) -> int:
    """How often a side of a map is to be halved to come close to that of the last one."""
    return max(0, round(math.log2(side / last)))
