"""What every way to run a frozen network has in common."""

from abc import ABC, abstractmethod
from typing import Final

from torch import Tensor

from limbeck.knowledge import Knowledge

__all__ = ["EXACT", "INT8", "NAMES", "WHERE", "Backend", "float_knowledge"]

EXACT: Final = ("eager", "compile", "onnxruntime", "openvino")
"""Those that give the network's own answers, up to rounding."""
INT8: Final = ("int8", "int8:onnxruntime", "int8:openvino")
"""In 8 bits: by the library that is faster here, or by the one that is named."""
NAMES: Final = EXACT + INT8
WHERE: Final = "teacher.backend"
"""Where a recipe says it; for messages."""


class Backend(ABC):
    """A frozen network, run in one way.

    Attributes:
        name: which way; `build` makes the same one of it again.
    """

    name: str

    @abstractmethod
    def __call__(self, input: Tensor) -> Knowledge:
        """The network's answer in eval mode.

        Args:
            input: [B, ...], as the network takes it (images in [0, 1]), any B.

        Returns:
            Logits [B, C] and the features in the order of the taps, float32, without a graph, on the
            input's device.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of memory, threads and files; the backend cannot be called afterwards."""


def float_knowledge(answer: Knowledge) -> Knowledge:
    """The answer without its graph, in float32 whatever an autocast made of it."""
    return Knowledge(answer.logits.detach().float(), tuple(f.detach().float() for f in answer.features))
