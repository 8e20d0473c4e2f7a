"""`eager`: the network as it is written."""

import torch
from torch import Tensor

from limbeck.backends.base import Backend, float_knowledge
from limbeck.knowledge import Knowledge
from limbeck.taps import Tapped

__all__ = ["Eager"]


class Eager(Backend):
    """The network itself, without gradient and in eval mode.

    Args:
        network: stays untouched; what is in training mode is in eval mode for the length of a call.
    """

    name = "eager"

    def __init__(self, network: Tapped) -> None:
        self._network = network
        self._modules = list(network.modules())  # kept: walking the tree costs more than looking

    def __call__(self, input: Tensor) -> Knowledge:
        training = [module for module in self._modules if module.training]
        for module in training:
            module.training = False
        try:
            with torch.no_grad():
                return float_knowledge(self._network(input))
        finally:
            for module in training:
                module.training = True

    def close(self) -> None:
        self._modules = []
