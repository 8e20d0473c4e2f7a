"""A few test samples, with what a network and its teacher say of them, as one picture."""

import numpy as np
import torch
from torch import Tensor

from limbeck.asking import ask
from limbeck.data import Data
from limbeck.taps import Tapped
from limbeck.tracking.pictures import SHOWN, samples
from limbeck.training.runtime import Runtime

__all__ = ["pictured"]


def pictured(
    network: Tapped, data: Data, runtime: Runtime, teacher_logits: Tensor | None
) -> np.ndarray | None:
    """Ask a network about some test samples, the same in every run, and draw them.

    All processes must call this, since the answers are gathered.

    Args:
        network: what is asked.
        data: whose test samples are shown.
        runtime: where.
        teacher_logits: the teacher's answers to all test samples, [N, C]; None without a teacher.

    Returns:
        Bytes [H, W, 3]; None where the samples are no pictures.
    """
    count = min(SHOWN, len(data.test))
    few = np.linspace(0, len(data.test) - 1, count).astype(np.int64)
    test, classes = data.test.subset(few), data.train.classes
    _, said = ask(network, test, runtime, count, classes=len(classes))
    images = test.take(np.arange(count, dtype=np.int64), None, 0).input
    if not isinstance(images, Tensor) or images.dim() != 4 or images.shape[1] not in (1, 3):
        return None
    heard = None if teacher_logits is None else teacher_logits[torch.from_numpy(few)]
    return samples(images, test.targets, said, heard, classes)
