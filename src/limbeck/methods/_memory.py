"""A remembered embedding for every training sample, for methods that contrast a sample with many others."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import UNLABELLED, Batch
from limbeck.methods.base import Probe

__all__ = ["Strangers", "check_rows", "random_bank", "remember", "rows_of", "scores"]


def random_bank(samples: int, dimension: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """A bank [samples, dimension]: uniform in a cube around zero, then of length 1.

    Args:
        samples: number of training samples.
        dimension: width of an embedding.
        like: what the bank shares its device and type with.
        generator: the only source of its values.
    """
    drawn = torch.rand(samples, dimension, generator=generator, device=generator.device)
    return F.normalize((2 * drawn - 1).to(like), dim=1)


class Strangers(nn.Module):
    """Draws samples with which a sample is contrasted: of other classes, uniformly, with replacement.

    A sample whose own class is not known, or is the only one, is contrasted with all samples but itself.

    Args:
        samples: number of training samples, at least 2.
        targets: class of each, [samples], `UNLABELLED` where it is not known; None: nowhere.
    """

    order: Tensor
    first: Tensor
    kin: Tensor

    def __init__(self, samples: int, targets: Tensor | None) -> None:
        super().__init__()
        own = torch.arange(samples)
        group = own
        if targets is not None:
            known = targets.cpu() != UNLABELLED
            # Numbers beyond all classes: a group of one.
            group = torch.where(known, targets.cpu(), own + int(targets.max()) + 1)
            if bool((group == group[0]).all()):
                group = own
        order = group.argsort(stable=True)
        _, which, counts = torch.unique(group, return_inverse=True, return_counts=True)
        starts = counts.cumsum(0) - counts
        # Made from the data at each start, so a state need not carry them.
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("first", starts[which], persistent=False)
        self.register_buffer("kin", counts[which], persistent=False)

    def draw(self, index: Tensor, count: int) -> Tensor:
        """For each sample of a batch [B], the numbers of `count` others, [B, count]."""
        first, kin = self.first[index, None], self.kin[index, None]
        # One range for all rows, folded to each row's own: uneven by less than a part in 10¹².
        drawn = torch.randint(2**62, (len(index), count), device=index.device) % (len(self.order) - kin)
        return self.order[torch.where(drawn >= first, drawn + kin, drawn)]


def check_rows(method: str, probe: Probe) -> int:
    """The number of training samples, which is that of a bank's rows.

    Raises:
        ValueError: the number is not known or too small, or batches do not say which samples they hold.
    """
    if probe.samples < 2:
        raise ValueError(
            f"{method} keeps an embedding for each training sample and needs their number, at least 2; "
            f"got {probe.samples}"
        )
    _index(method, probe.batch)
    return probe.samples


def rows_of(method: str, batch: Batch, samples: int) -> Tensor:
    """Which rows of the bank belong to a batch, [B].

    Raises:
        ValueError: the batch does not say, or (looked at where that costs nothing) says what cannot be.
    """
    index = _index(method, batch)
    # On an accelerator the look would wait for the device; there torch itself stops at a wrong number.
    if index.device.type == "cpu" and not torch.compiler.is_compiling() and len(index):
        low, high = int(index.min()), int(index.max())
        if low < 0 or high >= samples:
            raise ValueError(
                f"{method} was set up for {samples} training samples, numbered 0 to {samples - 1}; "
                f"batch.index holds {low if low < 0 else high}"
            )
    return index


def _index(method: str, batch: Batch) -> Tensor:
    if batch.index is None:
        raise ValueError(
            f"{method} needs batch.index, the number of each sample in its data set [B], to know its own "
            "earlier embeddings; the batch has none"
        )
    return batch.index


def scores(embedding: Tensor, bank: Tensor, drawn: Tensor, temperature: float) -> Tensor:
    """Products of each embedding with some rows of a bank, divided by the temperature.

    The bank may be changed in place as soon as this returns: the gradient does not look at it again.

    Args:
        embedding: [B, D].
        bank: [n, D]; gets no gradient.
        drawn: which rows, [B, K].
        temperature: τ > 0.

    Returns:
        [B, K].
    """
    bank = bank.detach()
    # Autocast would compute the products in half precision.
    with torch.autocast(embedding.device.type, enabled=False):
        if drawn.shape[1] * bank.shape[1] < bank.shape[0]:
            products = (bank[drawn] @ embedding[:, :, None]).squeeze(2)
        else:
            # All n products of a sample are fewer numbers than its K rows: [B, n] instead of [B, K, D].
            products = (embedding @ bank.clone().T).gather(1, drawn)
    return products / temperature


@torch.no_grad()
def remember(bank: Tensor, index: Tensor, embedding: Tensor, momentum: float) -> None:
    """Move the rows of a batch towards its new embeddings, in place, and make them of length 1 again.

    Args:
        bank: [n, D].
        index: [B]; of a sample that is there twice the last counts, on every device.
        embedding: [B, D].
        momentum: the share of the old row, in [0, 1).
    """
    order = torch.arange(len(index), device=index.device)
    last = torch.where(index[:, None] == index[None], order, -1).amax(1)
    moved = momentum * bank[index] + (1 - momentum) * embedding.detach()[last]
    bank.index_copy_(0, index, F.normalize(moved, dim=1).to(bank.dtype))
