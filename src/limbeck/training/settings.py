"""How one network is trained: `Training`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Training"]


@dataclass(frozen=True, slots=True)
class Training:
    """The length of a training, its optimiser and its schedule.

    Attributes:
        epochs: passes over the data; 0 trains nothing.
        optimizer: `name` (any of timm's; `sgd` is plain momentum), `lr`, and its other options.
        schedule: `name` (`cosine`, `step`, `constant`), `warmup_epochs`, `final` (share of the rate that the
            cosine ends at), `milestones` (epochs) and `gamma` for `step`.
        accumulate: into how many parts a batch is split; the gradient is that of the whole batch.
        clip: largest norm of the gradient; None does not clip.
    """

    epochs: int = 30
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"name": "sgd", "lr": 0.05, "momentum": 0.9})
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"name": "cosine"})
    accumulate: int = 1
    clip: float | None = None
