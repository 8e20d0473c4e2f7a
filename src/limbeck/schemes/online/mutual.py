"""Deep mutual learning: every peer learns from labels and from each of the other peers.

Y. Zhang, T. Xiang, T. M. Hospedales, H. Lu, Deep Mutual Learning, CVPR 2018,
https://arxiv.org/abs/1706.00384.

    L_k = CE(z_k, y) + 1/(K−1) · Σ_{l≠k} KL(p_l ‖ p_k)

with p = softmax(z) at temperature 1. Each p_l is a target, and takes no gradient. The paper updates one peer
after the other, each by what the others say then; here all are updated at once by what they said before the
step, as in the paper's own account of several devices, so that one pass of each serves all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor

from limbeck.knowledge import Batch, Knowledge
from limbeck.schemes.online._peers import Peers

__all__ = ["Mutual"]


class Mutual(Peers):
    """Each peer hears all the others."""

    paper = "Zhang, Xiang, Hospedales, Lu (2018), Deep Mutual Learning, https://arxiv.org/abs/1706.00384"
    aliases = ("dml",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 1.0}}
    }

    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """All but its own answer, for each."""
        heard = [tuple(one for m, one in enumerate(said) if m != n) for n in range(len(said))]
        return heard, {}
