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
        count = self._whole(parts) if self.complete else self._counted(targets)
        return [replace(b, labelled=count) for b in parts]

    def _whole(self, parts: list[Batch]) -> Tensor:
        share = float(sum(map(len, parts))) / len(parts)
        if share not in self._counts:
            self._counts[share] = torch.tensor(share, device=self._runtime.device)
        return self._counts[share]

    def _counted(self, targets: list[Tensor]) -> Tensor:
        """Never looked at here: where the targets lie on a device, that would wait for it."""
        share = torch.stack([_labels(target) for target in targets]).sum() / len(targets)
        share = self._runtime.mean(share.to(self._runtime.device, torch.float32, non_blocking=True))
        # Above 0, so that a batch without any label gives zero and not 0/0.
        return share.clamp(min=1e-12)


def _labels(target: Tensor) -> Tensor:
    """Labels of class indices; or the mass of shares, to which a sample of unknown class brings nothing."""
    counted = (target != UNLABELLED) if target.dim() == 1 else target
    return counted.sum(dtype=torch.float64)
