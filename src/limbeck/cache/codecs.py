"""How a teacher's logits are written down: every one of them, the largest, or a fair sample.

- `Dense`: all of them, in half or single precision: 2·C or 4·C bytes a row.
- `TopK`: the k largest, and one logit for each of the others, such that together they keep the mass that
  they had at the training temperature: 6·k + 4 bytes at most. Without that mass a student would learn from
  the largest alone that there is nothing else, which is far off.
- `Sampled`: for very large vocabularies, classes drawn from the teacher's distribution at the training
  temperature and how often each came: the shares are right on average whatever the number of draws, where
  the largest alone are biased. A. Anshumann et al., Sparse Logit Sampling: Accelerating Knowledge
  Distillation in LLMs, ACL 2025, https://arxiv.org/abs/2503.16870 (theirs with proposals from the teacher's
  own distribution).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.data.keyed import more, uniform
from limbeck.errors import InputError, WorkError

__all__ = ["Codec", "Dense", "Sampled", "TopK", "codec_named"]

Fields: TypeAlias = list[tuple[str, str, tuple[int, ...]]]
"""Name, NumPy's word for the kind of number (little endian everywhere), and shape of what a row holds."""

Rows: TypeAlias = "NDArray[np.void]"

DRAWN_NOTHING = -60.0
"""Log of the share of a class that was never drawn, e^-60: nothing, and still a finite number."""


class Codec(ABC):
    """Logits to what is stored of them, and back."""

    @abstractmethod
    def fields(self, classes: int) -> Fields:
        """What a row holds."""

    @abstractmethod
    def encode(self, logits: Tensor, rows: Rows, words: NDArray[np.uint64]) -> None:
        """Write logits [B, C], float32 on the CPU, into rows [B].

        Args:
            logits: the teacher's.
            rows: what is filled.
            words: 64 random bits for each row, [B].
        """

    @abstractmethod
    def decode(self, rows: Rows, classes: int) -> Tensor:
        """Logits [B, C] in float32."""

    def describe(self) -> dict[str, Any]:
        """What tells it from others, as plain values."""
        return {"codec": type(self).__name__.lower(), **asdict(self)}  # type: ignore[call-overload]  # all are

    def bytes(self, classes: int) -> int:
        """Size of a row."""
        return np.dtype(self.fields(classes)).itemsize


@dataclass(frozen=True)
class Dense(Codec):
    """All logits.

    Attributes:
        bits: 16, rounded to half precision (11 significant bits); or 32, as they are.
    """

    bits: Literal[16, 32] = 16

    def fields(self, classes: int) -> Fields:
        return [("logits", _float(self.bits), (classes,))]

    def encode(self, logits: Tensor, rows: Rows, words: NDArray[np.uint64]) -> None:
        rows["logits"] = narrowed(logits, self.bits, "logits")

    def decode(self, rows: Rows, classes: int) -> Tensor:
        return torch.from_numpy(rows["logits"].astype(np.float32, copy=False))


@dataclass(frozen=True)
class TopK(Codec):
    """The largest logits and the mass of the rest.

    Attributes:
        k: how many are kept, at least 1.
        temperature: T > 0, at which the mass of the rest is kept.
    """

    k: int = 100
    temperature: float = 1.0

    def fields(self, classes: int) -> Fields:
        kept = min(self.k, classes)
        return [("values", "<f2", (kept,)), ("classes", _count(classes), (kept,)), ("rest", "<f4", ())]

    def encode(self, logits: Tensor, rows: Rows, words: NDArray[np.uint64]) -> None:
        found = logits.topk(min(self.k, logits.shape[1]), dim=1)
        rows["values"] = narrowed(found.values, 16, "logits")
        rows["classes"] = found.indices.numpy()
        others = logits.shape[1] - found.indices.shape[1]
        if not others:
            rows["rest"] = 0.0
            return
        rest = logits.scatter(1, found.indices, -math.inf)
        mass = torch.logsumexp(rest.double() / self.temperature, 1)
        rows["rest"] = (self.temperature * (mass - math.log(others))).float().numpy()

    def decode(self, rows: Rows, classes: int) -> Tensor:
        rest = torch.from_numpy(rows["rest"].astype(np.float32, copy=False))
        logits = rest[:, None].expand(-1, classes).clone()
        places = torch.from_numpy(rows["classes"].astype(np.int64))
        return logits.scatter_(1, places, torch.from_numpy(rows["values"].astype(np.float32)))


@dataclass(frozen=True)
class Sampled(Codec):
    """Classes drawn from the teacher's distribution.

    The answer that is read back is T · log(share of the draws): its softmax at T is that share, whose mean is
    the teacher's own probability. At other temperatures it means nothing.

    Attributes:
        draws: how many, from 1 to 255.
        temperature: T > 0 of the distribution that is drawn from.
    """

    draws: int = 64
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.draws <= 255:
            raise InputError(f"teacher.cache.draws: must be from 1 to 255, got {self.draws}.")

    def fields(self, classes: int) -> Fields:
        return [("classes", _count(classes), (self.draws,)), ("counts", "<u1", (self.draws,))]

    def encode(self, logits: Tensor, rows: Rows, words: NDArray[np.uint64]) -> None:
        narrowed(logits, 32, "logits")
        sums = torch.softmax(logits.double() / self.temperature, 1).cumsum(1)
        level = torch.from_numpy(uniform(more(words, self.draws))) * sums[:, -1:]
        drawn = torch.searchsorted(sums, level, right=True).clamp_(max=logits.shape[1] - 1).numpy()
        rows["classes"] = 0
        rows["counts"] = 0
        for number, classes in enumerate(drawn):
            kinds, counts = np.unique(classes, return_counts=True)
            rows["classes"][number, : len(kinds)] = kinds
            rows["counts"][number, : len(kinds)] = counts

    def decode(self, rows: Rows, classes: int) -> Tensor:
        shares = torch.zeros(len(rows), classes)
        counts = torch.from_numpy(rows["counts"].astype(np.float32))
        shares.scatter_add_(1, torch.from_numpy(rows["classes"].astype(np.int64)), counts / self.draws)
        return shares.log_().clamp_(min=DRAWN_NOTHING).mul_(self.temperature)


def codec_named(described: dict[str, Any]) -> Codec:
    """The codec that `describe` told of."""
    kinds: dict[str, type[Codec]] = {kind.__name__.lower(): kind for kind in (Dense, TopK, Sampled)}
    options = dict(described)
    return kinds[options.pop("codec")](**options)


def narrowed(values: Tensor, bits: int, what: str) -> NDArray[Any]:
    """Float32 values as they are stored.

    Raises:
        InputError: half precision cannot hold them.
        WorkError: a value is not finite.
    """
    largest = float(values.abs().max()) if values.numel() else 0.0
    if not math.isfinite(largest):
        raise WorkError(f"teacher.cache: the teacher's {what} are not finite.")
    if bits == 16 and largest > torch.finfo(torch.float16).max:
        raise InputError(
            f"teacher.cache.store: the teacher's {what} reach {largest:.4g}, more than fp16 holds (65504); "
            "give store: fp32."
        )
    array: NDArray[Any] = values.numpy().astype(_float(bits), copy=False)
    return array


def _float(bits: int) -> str:
    return "<f2" if bits == 16 else "<f4"


def _count(classes: int) -> str:
    """The smallest kind of number that counts so many classes."""
    return "<u2" if classes <= 1 << 16 else "<u4"
