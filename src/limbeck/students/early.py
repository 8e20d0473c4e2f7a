"""Stopping early in a network with exits: `EarlyExit`.

S. Teerapittayanon, B. McDanel, H. T. Kung, BranchyNet: Fast Inference via Early Exiting from Deep Neural
Networks, ICPR 2016, https://arxiv.org/abs/1709.01686, goes by the entropy of an exit's answer; here it is the
top probability, as in Be Your Own Teacher (Zhang et al. 2019, https://arxiv.org/abs/1905.08094).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.calls import eager
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.students.exits import Exits
from limbeck.tap import Tap

__all__ = ["Early", "EarlyExit", "first_sure"]


@dataclass(frozen=True, slots=True)
class Early:
    """What a network that may stop early says of a batch.

    Attributes:
        logits: of the exit that answered, [B, C].
        exits: which exit that was, [B] int64: 0 the shallowest, the highest number the network's own answer.
    """

    logits: Tensor
    exits: Tensor

    def shares(self, count: int) -> list[float]:
        """The share of the samples that each of `count` exits answered."""
        found: list[float] = (self.exits.bincount(minlength=count).double() / len(self.exits)).tolist()
        return found


def first_sure(logits: Sequence[Tensor], threshold: float) -> Early:
    """Who answers which sample, where all exits have been asked already.

    Args:
        logits: of each exit, from shallow to deep, each [B, C].
        threshold: the top probability from which on an exit answers; the last answers whatever is left.
    """
    stacked = torch.stack(list(logits))
    sure = stacked.softmax(2).amax(2) >= threshold
    sure[-1] = True
    chosen = sure.to(torch.uint8).argmax(0)
    return Early(stacked[chosen, torch.arange(len(chosen), device=chosen.device)], chosen)


class _AllAnswered(Exception):  # noqa: N818 - nothing went wrong
    """Nothing is left to be asked."""


class EarlyExit:
    """Asks a network part by part, and each sample leaves at the first exit that is sure of it.

    The samples that have left are taken out of the batch, so that later parts see fewer; where all have left,
    the rest of the network does not run at all. What is behind an exit must see nothing of a batch but the
    map that the exit stands at, as in networks whose stages follow each other; others are asked by single
    samples.

    Args:
        network: what the scheme `own`, kind `exits`, trained: `limbeck.students.exits.Exits`, alone or behind
            its input adapter in an `nn.Sequential`.
        threshold: the top probability from which on an exit answers; 0 stops at the first, above 1 nowhere.

    Raises:
        InputError: the network has no exits, or the threshold is no number.
    """

    def __init__(self, network: nn.Module, threshold: float = 0.9) -> None:
        found = [module for module in network.modules() if isinstance(module, Exits)]
        if len(found) != 1:
            raise InputError(
                "EarlyExit: needs one network with exits, as scheme: {name: own, kind: exits} trains it; "
                f"given {type(network).__name__}, which holds {len(found)}."
            )
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not threshold >= 0:
            raise InputError(f"EarlyExit: threshold must be a number from 0 up, given {threshold!r}.")
        self.network = network
        self.threshold = threshold
        self._exits = found[0]

    def __call__(self, input: Tensor | Batch) -> Early:
        """The answers to some samples [B, ...], in eval mode and without gradient."""
        given = input.input if isinstance(input, Batch) else input
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        try:
            with torch.no_grad(), eager(self.network):  # compiled, it would pass the exits by
                return self._ask(given)
        finally:
            for module, mode in modes.items():
                module.training = mode

    def _ask(self, given: Any) -> Early:
        passing = _Passing(self._exits, self.threshold)
        model = self._exits.trunk.model
        handles = [
            model.get_submodule(tap.path).register_forward_hook(passing.hook(number, tap))
            for number, tap in enumerate(self._exits.trunk.taps[:-1])
        ]
        try:
            logits = self.network(given)
        except _AllAnswered:
            return passing.answer()
        finally:
            for handle in handles:
                handle.remove()
        passing.take(len(self._exits.exits), logits, None)
        return passing.answer()


class _Passing:
    """One batch on its way through a network."""

    def __init__(self, whole: Exits, threshold: float) -> None:
        self.whole = whole
        self.threshold = threshold
        self.left: Tensor | None = None
        """Which samples are still on their way; None: all, of a number that is yet to be seen."""
        self.rows: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.exits: list[Tensor] = []

    def hook(self, number: int, tap: Tap) -> Any:
        """Lets an exit answer what it is sure of, and sends the rest on."""
        calls = 0

        def ask(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            nonlocal calls
            calls += 1
            if calls != (tap.call or 1):
                return None
            logits = self.whole.exits[number](tap.formed("student", output)).logits
            sure = logits.softmax(1).amax(1) >= self.threshold
            self.take(number, logits, sure)
            if bool(sure.all()):
                raise _AllAnswered
            return output[~sure] if bool(sure.any()) else None

        return ask

    def take(self, number: int, logits: Tensor, sure: Tensor | None) -> None:
        """Note what an exit answered; None: everything."""
        left = torch.arange(len(logits), device=logits.device) if self.left is None else self.left
        if len(left) != len(logits):
            raise InputError(
                f"EarlyExit: {len(left)} samples are left and {len(logits)} come out, for later parts of "
                "this network see more than the map at the exit; ask about one sample at a time."
            )
        if sure is None:
            sure = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
        self.rows.append(left[sure])
        self.logits.append(logits[sure])
        self.exits.append(torch.full_like(left[sure], number))
        self.left = left[~sure]

    def answer(self) -> Early:
        """All answers, in the order of the batch."""
        order = torch.cat(self.rows).argsort()
        return Early(torch.cat(self.logits)[order], torch.cat(self.exits)[order])
