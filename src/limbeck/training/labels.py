"""How many labels a batch holds: what the mean of a label term is divided by."""

from dataclasses import replace

import torch
from torch import Tensor

from limbeck.knowledge import UNLABELLED, Batch
from limbeck.training.runtime import Runtime

__all__ = ["LabelCount"]


class LabelCount:
    """Tells label terms how many labels the *whole* batch holds.

    Without it, the mean over parts (or processes) of means over labels would not be the mean over the labels
    of the batch.

    Args:
        runtime: whose processes share a batch.

    Attributes:
        complete: whether every sample is known to carry a label, so that nobody has to count.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.complete = False
        self._runtime = runtime
        self._counts: dict[float, Tensor] = {}

    def __call__(self, parts: list[Batch]) -> list[Batch]:
        """The parts of one process, each with its share of the labels; unchanged where one has no targets."""
        targets = [b.target for b in parts if b.target is not None]
        if len(targets) < len(parts):
            return parts
        if self.complete:
            share = float(sum(map(len, parts))) / len(parts)
        else:
            share = sum(map(_labels, targets)) / len(parts)
            if self._runtime.world > 1:
                share = float(self._runtime.mean(torch.tensor(share, device=self._runtime.device)))
        if share not in self._counts:
            # Above 0, so that a batch without any label gives zero and not 0/0.
            self._counts[share] = torch.tensor(max(share, 1e-12), device=self._runtime.device)
        count = self._counts[share]
        return [replace(b, labelled=count) for b in parts]


def _labels(target: Tensor) -> float:
    """Labels of class indices; or the mass of shares, to which a sample of unknown class brings nothing."""
    return float((target != UNLABELLED).sum() if target.dim() == 1 else target.sum(dtype=torch.float64))
