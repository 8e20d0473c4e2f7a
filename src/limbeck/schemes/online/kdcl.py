"""Collaborative learning: all peers learn from one target, which is made of all their answers and the labels.

Q. Guo, X. Wang, Y. Wu, Z. Yu, D. Liang, X. Hu, P. Luo, Online Knowledge Distillation via Collaborative
Learning, CVPR 2020,
https://openaccess.thecvf.com/content_CVPR_2020/html/Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html.

    L = Σ_k CE(z_k, y) + λ · T² KL( softmax(z*/T) ‖ softmax(z_k/T) ),    T = 2, λ = 1

with one z* for all peers, for each sample by itself:

- `naive`: the z_k with the least cross-entropy;
- `linear`: Σ_k α_k z_k with the weights α_k ≥ 0, Σ α_k = 1, that have the least cross-entropy, a convex
  problem, solved by halving an interval for two peers, and pair after pair where they are more;
- `minlogit`: with each peer's logit of the true class subtracted from all of its logits, the least logit of
  each class. It is never less sure of the true class than the surest peer.

Where samples are mixed, cross-entropy and the true class's logit are those of the shares; of a sample without
a label z* is the mean of the logits. z* is a target, and takes no gradient.

Each peer sees a view of its own of the same samples (`views`), so that all are led to one answer for all
distortions. The paper's fourth target, `general`, weighs the peers by how their errors on held-out samples go
together, measured after every epoch. There is none here: the validation part of a run is for choosing among
finished trainings, and a scheme does not get to see it.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._parts import check_choice, check_switch, widen
from limbeck.objective import Objective
from limbeck.schemes.base import Setting
from limbeck.schemes.online._views import Viewing
from limbeck.taps import Tapped

if TYPE_CHECKING:
    pass

__all__ = ["KDCL", "linear", "minlogit", "naive"]

_HALVINGS = 16
"""Of an interval no longer than 1: weights to 1.5e-5."""
_SWEEPS = 6
"""Rounds over all pairs of more than two peers."""


def naive(logits: Tensor, shares: Tensor) -> Tensor:
    """Of each sample the logits with the least cross-entropy.

    Args:
        logits: of all peers, [peers, B, C].
        shares: of the classes, [B, C], each row 1 in all.

    Returns:
        Logits [B, C].
    """
    losses = -(torch.log_softmax(logits, dim=2) * shares).sum(2)
    best = losses.argmin(0)[None, :, None].expand(1, -1, logits.shape[2])
    return logits.gather(0, best)[0]


def linear(logits: Tensor, shares: Tensor) -> Tensor:
    """Of each sample the mean of the logits that is weighted so that its cross-entropy is least.

    Args:
        logits: of all peers, [peers, B, C].
        shares: of the classes, [B, C], each row 1 in all.

    Returns:
        Logits [B, C].
    """
    peers = len(logits)
    weights = [logits.new_full(logits.shape[1:2], 1 / peers)] * peers  # each [B]
    mixed = logits.mean(0)
    for _ in range(1 if peers == 2 else _SWEEPS):
        for one, other in combinations(range(peers), 2):
            towards = logits[one] - logits[other]
            low, high = -weights[one], weights[other]
            for _ in range(_HALVINGS):
                middle = (low + high) / 2
                slope = ((torch.softmax(mixed + middle[:, None] * towards, 1) - shares) * towards).sum(1)
                low, high = torch.where(slope < 0, middle, low), torch.where(slope < 0, high, middle)
            moved = (low + high) / 2
            weights[one], weights[other] = weights[one] + moved, weights[other] - moved
            mixed = mixed + moved[:, None] * towards
    return mixed


def minlogit(logits: Tensor, shares: Tensor) -> Tensor:
    """Of each sample the least logit of each class, beside that of the true class.

    Args:
        logits: of all peers, [peers, B, C].
        shares: of the classes, [B, C], each row 1 in all.

    Returns:
        Logits [B, C]; that of the true class is 0.
    """
    return (logits - (logits * shares).sum(2, keepdim=True)).amin(0)


_ENSEMBLES = {"naive": naive, "linear": linear, "minlogit": minlogit}


class KDCL(Viewing):
    """All peers hear one answer, made of what all say and of the labels.

    Args:
        ensemble: how it is made: `naive`, `linear` or `minlogit`.
        views: each peer sees a view of its own of the same samples.
    """

    paper = (
        "Guo, Wang, Wu, Yu, Liang, Hu, Luo (2020), Online Knowledge Distillation via Collaborative Learning, "
        "CVPR, https://openaccess.thecvf.com/content_CVPR_2020/html/"
        "Guo_Online_Knowledge_Distillation_via_Collaborative_Learning_CVPR_2020_paper.html"
    )
    aliases = ("collaborative",)
    published: ClassVar[Mapping[str, object]] = {
        "objective": {"cross_entropy": 1.0, "kd": {"weight": 1.0, "temperature": 2.0}},
        "ensemble": "minlogit",
        "views": True,
    }

    def __init__(
        self,
        student: Tapped,
        objective: Objective,
        setting: Setting,
        *,
        ensemble: str = "minlogit",
        views: bool = True,
    ) -> None:
        super().__init__(student, objective, setting, views)
        self.ensemble = ensemble

    @classmethod
    def check(cls, options: Mapping[str, Any]) -> None:
        """A known ensemble."""
        check_choice("ensemble", options.get("ensemble", "minlogit"), tuple(_ENSEMBLES))
        check_switch("views", options.get("views", True))

    def teach(self, batch: Batch) -> Any:
        """What each peer is asked."""
        return self.seen(batch)

    def inputs(self, batch: Batch, teaching: Any) -> Sequence[Any]:
        """The views; None: all are asked the same."""
        given: Sequence[Any] = super().inputs(batch, teaching) if teaching is None else teaching
        return given

    def advise(
        self, said: Sequence[Knowledge], batch: Batch, teaching: Any
    ) -> tuple[list[tuple[Knowledge, ...]], dict[str, Tensor]]:
        """The joined answer, for all."""
        logits = torch.stack([widen(one.logits) for one in said])
        shares, known = _shares(batch.target, logits[0])
        joined = _ENSEMBLES[self.ensemble](logits, shares)
        joined = torch.where(known[:, None], joined, logits.mean(0))
        return [(Knowledge(joined),)] * len(said), {}


def _shares(target: Tensor | None, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The classes' shares of each sample, [B, C], and which samples have a label, [B]."""
    if target is None:
        return torch.zeros_like(logits), torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    if target.ndim == 2:
        return target.to(logits.dtype), target.sum(1) > 0
    return F.one_hot(target.clamp(min=0), logits.shape[1]).to(logits.dtype), target >= 0
