"""How one network is trained: `Training`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Span", "Training"]


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


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of a training that one stage takes. A training without stages is one span.

    Attributes:
        stage: the stage's name; empty for the last, the objective proper.
        student: whether the student learns in it.
        first: epochs done when it starts.
        last: epochs done when it ends; None: those of the settings.
        origin: the epoch at which the schedule of the learning rate starts.
        extra: epochs of earlier stages that `first` does not count, so that steps of all stages have numbers
            that only rise.
    """

    stage: str = ""
    student: bool = True
    first: int = 0
    last: int | None = None
    origin: int = 0
    extra: int = 0
