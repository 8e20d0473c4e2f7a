"""What one row of a cache holds: an encoded response, and features where they are asked for."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.cache.codecs import Codec, Dense, codec_named, narrowed
from limbeck.knowledge import Knowledge

__all__ = ["Layout", "Rows"]

Rows: TypeAlias = "NDArray[np.void]"


@dataclass(frozen=True)
class Layout:
    """The row of one sample's answer.

    Attributes:
        classes: C, number of logits.
        codec: how these are written.
        features: shape of each feature of a sample, in the order of the taps.
    """

    classes: int
    codec: Codec
    features: tuple[tuple[int, ...], ...] = ()

    @property
    def dtype(self) -> "np.dtype[np.void]":
        """A row, as NumPy knows it."""
        number = "<f4" if self._bits == 32 else "<f2"
        features = [(f"feature{n}", number, shape) for n, shape in enumerate(self.features)]
        return np.dtype([*self.codec.fields(self.classes), *features])

    @property
    def _bits(self) -> int:
        return self.codec.bits if isinstance(self.codec, Dense) else 16

    def encode(self, answer: Knowledge, words: NDArray[np.uint64]) -> Rows:
        """The rows of a batch's answer.

        Args:
            answer: logits [B, C], and features as the layout has them.
            words: 64 random bits for each row, [B].

        Raises:
            InputError: half precision cannot hold a value.
            WorkError: a value is not finite.
        """
        logits = answer.logits.detach().float().cpu()
        rows = np.zeros(len(logits), dtype=self.dtype)
        self.codec.encode(logits, rows, words)
        for number, feature in enumerate(answer.features):
            rows[f"feature{number}"] = narrowed(feature.detach().float().cpu(), self._bits, "features")
        return rows

    def decode(self, rows: Rows) -> Knowledge:
        """The answer in float32 on the CPU."""
        features = [rows[f"feature{n}"].astype(np.float32) for n in range(len(self.features))]
        return Knowledge(
            self.codec.decode(rows, self.classes), tuple(torch.from_numpy(feature) for feature in features)
        )

    def describe(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "classes": self.classes,
            **self.codec.describe(),
            "features": [list(shape) for shape in self.features],
        }

    @classmethod
    def described(cls, found: dict[str, Any]) -> "Layout":
        """What `describe` told of."""
        codec = {k: v for k, v in found.items() if k not in ("classes", "features")}
        return cls(found["classes"], codec_named(codec), tuple(tuple(shape) for shape in found["features"]))
