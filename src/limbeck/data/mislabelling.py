"""Wrong labels in place of right ones, to try out what they do: `mislabelled`."""

import numpy as np
import torch
from torch import Tensor

from limbeck.data.keyed import draw, keyed_permutation
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED

__all__ = ["mislabelled"]

_WHICH, _WHAT = 11, 12  # streams of the keyed generator that nothing else draws from


def mislabelled(targets: Tensor, share: float, classes: int, seed: int) -> Tensor:
    """Labels of which a share is replaced by those of other classes, each of these as likely as the others.

    Args:
        targets: class indices [N]; samples without a label (−1) stay so.
        share: of the labelled samples, in [0, 1].
        classes: how many there are.
        seed: decides which labels are replaced, and by what.

    Raises:
        InputError: there is only one class.
    """
    if classes < 2:
        raise InputError("teacher.label_noise: needs at least 2 classes, or no label is a wrong one.")
    known = (targets != UNLABELLED).nonzero().flatten().numpy()
    chosen = known[keyed_permutation(seed, len(known), _WHICH)[: round(share * len(known))]]
    further = 1 + draw(seed, chosen, -1, _WHAT) % np.uint64(classes - 1)
    changed = targets.clone()
    moved = targets[chosen].numpy() + further.astype(np.int64)
    changed[chosen] = torch.from_numpy(moved % classes)
    return changed
