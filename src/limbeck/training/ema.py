"""A moving average of the student's weights: what is evaluated, saved and shipped where a recipe asks for it.

    average ← d·average + (1 − d)·weights,    after every optimiser step

B. Polyak, A. Juditsky, Acceleration of Stochastic Approximation by Averaging, SIAM J. Control Optim. 1992,
https://doi.org/10.1137/0330046; as an exponential average of a network's weights in A. Tarvainen, H. Valpola,
Mean Teachers Are Better Role Models, NeurIPS 2017, https://arxiv.org/abs/1703.01780.

Statistics of norm layers are averaged as the weights are; whole numbers (counts) are copied. timm's and
torch's own averages copy the network, and a copied network's hooks would still write into the taps of the
first; this one keeps tensors only, and lends them to the network that is there.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.errors import InputError, unknown
from limbeck.training.sharding import local, taken

__all__ = ["Averaging", "Ema"]

SCHEDULES = ("constant", "exponential", "threshold")


@dataclass(frozen=True, slots=True)
class Averaging:
    """How the weights are averaged.

    Attributes:
        decay: d, in [0, 1).
        schedule: how d comes to be: `constant`; `exponential`, d·(1 − exp(−beta·step/steps of the training));
            `threshold`, min(d, (1 + step)/(10 + step)). Both ramps let the average forget the random first
            weights soon.
        beta: steepness of the exponential ramp, above 0.

    Raises:
        InputError: a value is out of range.
    """

    decay: float = 0.9999
    schedule: Literal["constant", "exponential", "threshold"] = "exponential"
    beta: float = 15.0

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise InputError(f"train.ema.decay: must be from 0 to below 1, got {self.decay}.")
        if self.schedule not in SCHEDULES:
            raise unknown("schedule", str(self.schedule), SCHEDULES, where="train.ema.schedule")
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise InputError(f"train.ema.beta: must be above 0, got {self.beta}.")

    def at(self, step: int, total: int) -> float:
        """The decay after step number `step`, counted from 1, of a training of `total` steps."""
        if self.schedule == "exponential":
            return self.decay * (1 - math.exp(-self.beta * step / max(1, total)))
        if self.schedule == "threshold":
            return min(self.decay, (1 + step) / (10 + step))
        return self.decay


class Ema:
    """The average of one network.

    Args:
        network: whose weights are averaged; placed on its device already.
        averaging: how.
        total: steps of the whole training, for the exponential ramp.
    """

    def __init__(self, network: nn.Module, averaging: Averaging, total: int) -> None:
        self.averaging = averaging
        self.total = total
        self._live = _tensors(network)
        self._average = {name: value.detach().clone() for name, value in self._live.items()}
        moving = [name for name, value in self._live.items() if value.is_floating_point()]
        self._moving = [self._live[n] for n in moving], [local(self._average[n]) for n in moving]
        self._counts = [(self._live[n], self._average[n]) for n in self._live if n not in set(moving)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`, counted from 1."""
        live, average = self._moving
        weight = 1 - self.averaging.at(step, self.total)
        torch._foreach_lerp_(average, [local(p) for p in live], weight)
        for count, kept in self._counts:
            kept.copy_(count)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The network with its averaged weights; on leaving, it has its own again."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def settle(self) -> None:
        """Give the network the averaged weights for good: the training is over."""
        for name, value in self._live.items():
            value.copy_(self._average[name])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, value in self._live.items():
            aside = value.detach().clone()
            value.copy_(self._average[name])
            self._average[name].copy_(aside)

    def buffers(self) -> list[Tensor]:
        """The averages of what is no parameter, in the network's order: statistics of norm layers."""
        return [self._average[n] for n, value in self._live.items() if not isinstance(value, nn.Parameter)]

    def state(self) -> dict[str, Tensor]:
        """The average, for the training state."""
        return dict(self._average)

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            InputError: the state is another network's.
        """
        if state.keys() != self._average.keys():
            raise InputError(
                "the saved average does not fit this network: other tensors have averages there."
            )
        for name, value in self._average.items():
            value.copy_(taken(state[name], value))


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, shared ones once: the very tensors that the steps change."""
    return {
        **dict(network.named_parameters()),
        **dict(network.named_buffers()),
    }
