"""A network as a chain of parts, in the order of a pass: `Chain`.

The parts are the outermost modules that answer a map; but where a module holds several stages (the `features`
of a VGG), its own parts take its place. So what is inside a block never counts, whatever its resolution.
Pooling is no part.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from limbeck.calls import Call, is_pooling

__all__ = ["Chain", "Part"]


@dataclass(frozen=True, eq=False)
class Part:
    """A link of the chain.

    Attributes:
        call: of the module that it is.
        kind: how its answer is laid out, [B, C, H, W], [B, H, W, C] or [B, L, C]; the tokens of a stage that
            began with maps count for a grid.
        side: of the answer, in places.
        weights: how many layers with a matrix or a kernel it has.
    """

    call: Call
    kind: Literal["map", "grid", "tokens"]
    side: int
    weights: int


class Chain:
    """The parts of one network.

    Args:
        root: the network's own call, with all calls inside it.
        model: the network.

    Attributes:
        parts: in the order of the pass.
    """

    def __init__(self, root: Call, model: nn.Module) -> None:
        self._root = root
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._kinds = Counter(type(module) for module in model.modules())
        self.parts = self._of(root)

    def _of(self, call: Call) -> list[Part]:
        """The parts of what a call called."""
        found: list[Part] = []
        for inner in call.inner:
            for part in self._parts_of(inner):
                last = found[-1].call if found else None
                if last and last.leaves(part.call.answer, part.call.answer_version):
                    continue  # it does nothing, as nn.Identity
                found.append(part)
        return found

    def _parts_of(self, call: Call) -> list[Part]:
        if is_pooling(call.module):
            return []
        kind, side = self.layout(call.answer)
        parts = self._of(call)
        if kind is None:
            return parts
        enters = self.layout(call.given)[0]
        if kind == "tokens" and enters == "tokens":
            return parts if self._holds_blocks(call, parts) else [self._part(call, kind, side)]
        if kind == "tokens" and all(part.kind == "map" for part in parts):  # patches become tokens
            return []
        large = [part for part in parts if part.weights > 1]
        if kind == "tokens" and all(part.kind == "tokens" for part in large):  # a whole transformer
            return parts
        if self._holds_stages(call, side, [part for part in parts if part.side >= side]):
            return parts
        return [self._part(call, "grid" if kind == "tokens" else kind, side)]

    def _part(self, call: Call, kind: Literal["map", "grid", "tokens"], side: int) -> Part:
        return Part(call, kind, side, _weights(call.module))

    def _holds_blocks(self, call: Call, parts: list[Part]) -> bool:
        """Whether a module is several blocks of a transformer."""
        listed = [part for part in parts if part.weights > 1 and self.is_listed(part)]
        return isinstance(call.module, nn.Sequential) or len(listed) > 1

    def _holds_stages(self, call: Call, side: int, parts: list[Part]) -> bool:
        """Whether a module is several stages, and not one stage or block.

        An nn.Sequential is when anything in it has another resolution than its end. For a module with a
        forward of its own, one change of resolution is what a stage or block may do; and of what the network
        has more than two, it is one of the stages or blocks itself.
        """
        sides = {part.side for part in parts}
        if type(call.module) is nn.Sequential:
            return len(sides | {side}) > 1
        if self._kinds[type(call.module)] > 2:
            return False
        return len(sides) > 2 or len({part.side for part in parts if part.weights > 1}) > 1

    def is_listed(self, part: Part) -> bool:
        """Whether it is one of a list of modules, and no attribute with a name of its own."""
        return isinstance(self._modules[part.call.path.rpartition(".")[0]], nn.Sequential | nn.ModuleList)

    def layout(self, value: Any) -> tuple[Literal["map", "grid", "tokens"] | None, int]:
        """How a value is laid out, and its side in places; a map has the proportions of the image."""
        image = self._root.given
        if not isinstance(value, Tensor) or not isinstance(image, Tensor) or image.ndim != 4:
            return None, 0
        if value.ndim < 3 or len(value) != len(image):  # windows or patches one by one are no samples
            return None, 0
        if value.ndim == 3:
            return "tokens", math.isqrt(value.shape[1])
        if value.ndim == 4 and _fits(value.shape[2:], image.shape[2:]):
            return "map", max(value.shape[2:])
        if value.ndim == 4 and _fits(value.shape[1:3], image.shape[2:]):
            return "grid", max(value.shape[1:3])
        return None, 0


def _fits(places: Sequence[int], image: Sequence[int]) -> bool:
    """Whether height and width are in the image's proportions, up to the rounding of a place."""
    high, wide = places
    return abs(high * image[1] - wide * image[0]) < max(image) if image[0] != image[1] else high == wide


def _weights(module: nn.Module) -> int:
    """How many layers with a matrix or a kernel it has."""
    return sum(isinstance(m, nn.Linear | nn.modules.conv._ConvNd) for m in module.modules())
