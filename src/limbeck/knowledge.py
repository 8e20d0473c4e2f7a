"""What a network is asked about (`Batch`) and what it answers (`Knowledge`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["UNLABELLED", "Batch", "Knowledge", "as_batch", "places"]

UNLABELLED = -1
"""The class index of a sample whose label is not known; label terms skip it."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one network says about one batch.

    Attributes:
        logits: the response, [B, C].
        features: what the taps read, in the order of the taps.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()

    def detach(self) -> "Knowledge":
        """The same answer, cut off from the graph."""
        return Knowledge(self.logits.detach(), tuple(f.detach() for f in self.features))


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step sees.

    Attributes:
        input: the samples, [B, ...], or one tensor for each modality. Images are float in [0, 1].
        target: class indices [B] (int64, `UNLABELLED` where not known), or class shares [B, C] when
            samples are mixed, or None.
        index: number of each sample in its data set, [B] int64.
        view: which view of the sample this is (the number of the pass), [B] int64.
        labelled: number of labelled samples by which a label term divides, a scalar above 0. The trainer
            sets it, so that accumulated and distributed batches give the mean over the labelled samples of
            the whole batch; None means: count them here.
        keys: sample, view and place in the order of its pass of each sample, [B, 3] int64; on the CPU
            wherever the batch is, for what is looked up there without waiting for a device.
    """

    input: Tensor | dict[str, Tensor]
    target: Tensor | None = None
    index: Tensor | None = None
    view: Tensor | None = None
    labelled: Tensor | None = None
    keys: Tensor | None = None

    def __len__(self) -> int:
        first = self.input if isinstance(self.input, Tensor) else next(iter(self.input.values()))
        return int(first.shape[0])

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device; tensors that are there already are not copied."""

        def move(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        moved = (
            self.input.to(device, non_blocking=True)
            if isinstance(self.input, Tensor)
            else {name: value.to(device, non_blocking=True) for name, value in self.input.items()}
        )
        return replace(
            self,
            input=moved,
            target=move(self.target),
            index=move(self.index),
            view=move(self.view),
            labelled=move(self.labelled),
        )


def as_batch(item: Any) -> Batch:
    """Take what a loader yields: a `Batch`, a tensor, `(x, y)`, or a mapping with `input` and `target`.

    Raises:
        TypeError: the item is none of these.
    """
    if isinstance(item, Batch):
        return item
    if isinstance(item, Tensor):
        return Batch(item)
    if isinstance(item, tuple | list) and 1 <= len(item) <= 2 and isinstance(item[0], Tensor | dict):
        return Batch(*item)
    if isinstance(item, dict) and "input" in item:
        return Batch(**item)
    raise TypeError(
        "a loader must yield (input, target), a tensor, a mapping with the key 'input', or limbeck.Batch; "
        f"got {type(item).__name__}"
    )


def places(chosen: Sequence[int], classes: int) -> Tensor:
    """Where each class stands among some of them, int64 [classes + 1]; `UNLABELLED` where it does not.

    The last entry is that of `UNLABELLED` itself, which as an index counts from the end.
    """
    found = torch.full((classes + 1,), UNLABELLED, dtype=torch.int64)
    found[torch.tensor(chosen)] = torch.arange(len(chosen))
    return found
