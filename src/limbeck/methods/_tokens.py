"""What losses over the tokens of a text share: shapes, the mask, and divergences over the vocabulary."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.knowledge import UNLABELLED, Batch
from limbeck.methods._parts import widen

__all__ = ["divergence", "log_shares", "mask_of", "mean_over_tokens", "mixture"]


def log_shares(
    method: str, student: Tensor, teacher: Tensor, mask: Tensor | None, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Logarithms of both next-token distributions, [..., V], in at least single precision.

    Raises:
        ValueError: the vocabularies, the positions or the mask do not belong together.
    """
    if student.ndim < 2 or student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f"{method} needs student and teacher logits [..., vocabulary] of the same positions; "
            f"got {list(student.shape)} and {list(teacher.shape)}"
        )
    if student.shape[-1] != teacher.shape[-1]:
        raise ValueError(
            f"{method} needs one vocabulary; got {student.shape[-1]} tokens of the student and "
            f"{teacher.shape[-1]} of the teacher. Align the vocabularies first: cut the padding off, "
            "and never fill up with zero logits, which are tokens with a probability."
        )
    if mask is not None and mask.shape != student.shape[:-1]:
        raise ValueError(
            f"{method} needs a mask with an entry for each position, {list(student.shape[:-1])}; "
            f"got {list(mask.shape)}"
        )
    ours, theirs = widen(student), widen(teacher)
    if temperature != 1.0:
        ours, theirs = ours / temperature, theirs / temperature
    return F.log_softmax(ours, dim=-1), F.log_softmax(theirs, dim=-1)


def divergence(of: Tensor, to: Tensor) -> Tensor:
    """KL(of ‖ to) at each position, [...], from logarithms [..., V]."""
    return F.kl_div(to, of, reduction="none", log_target=True).sum(-1)


def mixture(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Logarithm of share · first + (1 − share) · second, from logarithms, for 0 <= share <= 1."""
    if share == 0.0:
        return second
    if share == 1.0:
        return first
    return torch.logaddexp(first + math.log(share), second + math.log1p(-share))


def mean_over_tokens(each: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of what stands at the positions that count; zero where none does.

    Args:
        each: a value for each position.
        mask: not zero where a position counts; None: all do.
    """
    if mask is None:
        return each.mean()
    counted = mask != 0
    return torch.where(counted, each, 0.0).sum() / counted.sum().clamp(min=1)


def mask_of(logits: Tensor, batch: Batch) -> Tensor | None:
    """Which positions of logits [B, L, V] count, [B, L]; None: all, as for logits without an axis of tokens.

    The batch's `attention_mask` says it, where its input holds one; else targets [B, L] do, by `UNLABELLED`.
    """
    if logits.ndim != 3:
        return None
    if isinstance(batch.input, dict) and "attention_mask" in batch.input:
        return batch.input["attention_mask"]
    target = batch.target
    if target is not None and target.shape == logits.shape[:2] and not target.is_floating_point():
        return target != UNLABELLED
    return None
