"""The layers of one network that methods compare, seen from a pass of a few samples: `Layers`.

A network is taken for a chain of *parts* (`limbeck.chain`), so a stage goes by its outermost name, and is
what comes before pooling. The *stages* are

- the parts that hold convolutions, where they are five attributes at most (`layer1` to `layer4` of a ResNet);
- where they are more, or members of a list (the blocks of a MobileNet), the last of each resolution;
- in a network without such parts (the flat VGG of torchvision), the last layer of each resolution;
- in a transformer, its blocks.

In a transformer whose first stages are convolutions (EfficientFormer), the stages are those of a network of
convolutions.

A part of one convolution, beside others of more, is a stem or a head and no stage. Of more than four stages
the last four count, as in the protocol of Tian et al. (2020), https://arxiv.org/abs/1910.10699, whose VGG has
five blocks and takes the first for the stem.

Maps have at least two places a side. Tokens, and maps with the channels last (Swin), are tapped with `:map`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limbeck.calls import (
    Call,
    classifier,
    is_norm,
    is_pooling,
    is_rectified,
    is_relu,
    version_of,
    watch,
)
from limbeck.chain import Chain, Part
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.taps import Tapped

__all__ = ["MOST_STAGES", "Layers", "Stage"]

MOST_STAGES = 4

CHOOSE = "give the layers, {student layer: teacher layer}."


@dataclass(frozen=True, slots=True)
class Stage:
    """The end of a stage.

    Attributes:
        tap: its map.
        level: how often the input's side is halved in it; None for the blocks of a transformer.
        part: where it ends, for `Layers.before_relu`.
    """

    tap: str
    level: int | None
    part: Part


class Layers:
    """The layers of one network that methods compare.

    Args:
        network: asked about the batch's first two samples in eval mode, without gradient.
        batch: a few samples.
    """

    def __init__(self, network: Tapped, batch: Batch) -> None:
        self.who = network.who
        self._root = watch(network, batch)
        self._calls = list(self._root.all())
        self._often = {call.path for call in self._calls if call.number > 1}
        self._chain = Chain(self._root, network.model)

    def embedding(self) -> str:
        """The tap of what enters the classifier.

        Raises:
            InputError: there is no linear layer, or it does not get one vector for each sample.
        """
        heads = [call for call in self._calls if isinstance(call.module, nn.Linear)]
        if not heads:
            raise InputError(
                f"auto looks for what enters the {self.who}'s last linear layer, and it has none; {CHOOSE}"
            )
        head = classifier(self._root) or heads[-1]
        if head.given.ndim != 2:
            raise InputError(
                f'auto takes what enters the {self.who}\'s last linear layer "{head.path}", which is not one '
                f"vector for each sample; {CHOOSE}"
            )
        return self._entering(head)

    def last_map(self) -> str:
        """The tap of the last map before pooling.

        Raises:
            InputError: there is none.
        """
        last = self._blocks()[-1] if self._is_transformer else self._maps()[-1]
        return self._output(last.call)

    def averages_last_map(self) -> bool:
        """Whether the classifier takes the last map, averaged over its places, and nothing in between."""
        head = classifier(self._root)
        if self._is_transformer or head is None or not self._large():
            return False
        last, given = self._large()[-1], head.given
        if version_of(last.call.answer) != last.call.answer_version:  # a ReLU in place: the tap reads a copy
            return False
        if last.kind != "map" or given.ndim != 2 or given.shape[1] != last.call.answer.shape[1]:
            return False
        return torch.allclose(last.call.answer.mean((2, 3)), given, rtol=1e-3, atol=1e-4)

    def stages(self) -> list[Stage]:
        """The ends of all stages, or all blocks of a transformer.

        Raises:
            InputError: there are no maps.
        """
        if self._is_transformer:
            return [Stage(self._output(part.call), None, part) for part in self._blocks()]
        return [self._stage(part) for part in self._ends()[-MOST_STAGES:]]

    def stem(self) -> str | None:
        """The tap of what enters the first stage, before it is pooled; None where that is the input."""
        if self._is_transformer:
            return self._entering(self._blocks()[0].call)
        side = self._ends()[-MOST_STAGES:][0].side
        first = next(part.call for part in self._sections() or self._maps() if part.side == side)
        for pool in self._calls:
            if is_pooling(pool.module) and pool.leaves(first.given, first.given_version):
                for part in self._chain.parts:
                    if part.call.leaves(pool.given, pool.given_version):
                        return self._output(part.call)
        return None if first.given is self._root.given else self._entering(first)

    def before_relu(self, stage: Stage) -> str:
        """The tap of a stage's end before its last ReLU.

        In a pre-activation network (WRN) that is behind the BatchNorm with which the next stage begins, where
        OFD takes it (https://arxiv.org/abs/1904.01866). A stage that ends without a ReLU is taken as it is.

        Raises:
            InputError: the ReLU is a function, which cannot be tapped.
        """
        end = stage.part.call
        if stage.part.kind != "map":
            return stage.tap
        for call in reversed(self._calls):
            if is_relu(call) and call.leaves(end.answer, end.answer_version):
                return self._before(call)
        for call in self._calls if any(map(is_relu, self._calls)) else ():
            if is_norm(call) and call.enters(end.answer, end.answer_version):
                relu = next((inner for inner in call.inner if is_relu(inner)), None)
                if relu is not None or not call.inner:
                    return self._output(call) if relu is None else self._before(relu)
        if version_of(end.answer) == end.answer_version and is_rectified(end.answer):
            raise InputError(
                f'auto looks for what enters the last ReLU of the {self.who}\'s "{stage.tap}", and that is '
                f"no module that could be tapped: make it an nn.ReLU() of the network's, or {CHOOSE}"
            )
        return stage.tap

    def _before(self, relu: Call) -> str:
        """What enters a ReLU; by the BatchNorm whose output it is, if so: methods may want its statistics."""
        for call in self._calls:
            if is_norm(call) and call.end < relu.start and call.leaves(relu.given, relu.given_version):
                return self._output(call)
        return self._entering(relu)

    def _stage(self, part: Part) -> Stage:
        halved = math.log2(max(self._root.given.shape[2:]) / part.side)
        return Stage(self._output(part.call), round(halved), part)

    # What the chain says

    @property
    def _is_transformer(self) -> bool:
        """Whether it ends in blocks of tokens."""
        large = [part for part in self._chain.parts if part.weights > 1 and part.side > 1]
        return bool(large) and large[-1].kind == "tokens"

    def _blocks(self) -> list[Part]:
        return [
            part for part in self._chain.parts if part.kind == "tokens" and part.weights > 1 and part.side > 1
        ]

    def _maps(self) -> list[Part]:
        if not self._large():
            raise InputError(f"auto looks for maps [B, C, H, W], and the {self.who} has none; {CHOOSE}")
        return self._large()

    def _large(self) -> list[Part]:
        """The parts with a map of more than one place."""
        return [part for part in self._chain.parts if part.kind != "tokens" and part.side > 1]

    def _sections(self) -> list[Part]:
        """The parts that hold convolutions: stages, or blocks of them; none in a flat network."""
        whole = [
            part for part in self._chain.parts if part.kind != "tokens" and part.call.inner and part.weights
        ]
        whole = [part for part in whole if part.weights > 1] or whole
        return whole if any(part.side > 1 for part in whole) else []

    def _ends(self) -> list[Part]:
        """The last part of every stage, those that count for the stem included."""
        ends = self._sections()
        if not ends or len(ends) > MOST_STAGES + 1 or any(self._chain.is_listed(part) for part in ends):
            ends = list({part.side: part for part in ends or self._maps()}.values())
        return [part for part in ends if part.side > 1]

    # Names

    def _output(self, call: Call) -> str:
        return self._name(call) + self._form(call.answer, call.answer_version)

    def _entering(self, call: Call) -> str:
        return f"{self._name(call)}:in" + self._form(call.given, call.given_version)

    def _form(self, value: Tensor, version: int) -> str:
        if self._chain.layout(value)[0] in ("grid", "tokens"):
            return ":map"
        return ":copy" if version_of(value) != version else ""

    def _name(self, call: Call) -> str:
        return f"{call.path}@{call.number}" if call.path in self._often else call.path
