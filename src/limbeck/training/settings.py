"""How one network is trained: `Training`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal

from limbeck.errors import InputError
from limbeck.training.ema import Averaging

__all__ = ["Checkpoint", "Span", "Training", "check_fits", "shortened"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Which weights a trained network is in the end, and how they are chosen: on the validation part.

    Attributes:
        take: `last`, those of the last epoch; `best`, those of the epoch with the best figure; `average`, the
            mean of those of the best epochs.
        best: how many epochs `average` takes in, at least 1.
        watch: the figure.
        mode: whether more (`max`) or less (`min`) of it is better; None: as is usual for this figure.
    """

    take: Literal["last", "best", "average"] = "last"
    best: int = 10
    watch: str = "accuracy"
    mode: Literal["max", "min"] | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """The length of a training, its optimiser and its schedule.

    Attributes:
        epochs: passes over the data; 0 trains nothing.
        optimizer: `name` (any of timm's; `sgd` is plain momentum), `lr`, and its other options.
        schedule: `name` (`cosine`, `polynomial`, `step`, `constant`), `warmup_epochs`, `cooldown_epochs` (the
            last ones, at the final rate) and `final` (share of the rate that cosine and polynomial end at),
            `cycles` (equal ones, each from the top) for `cosine`, `power` for `polynomial`, `milestones`
            (epochs) and `gamma` for `step`.
        accumulate: into how many parts a batch is split; the gradient is that of the whole batch.
        clip: largest norm of the gradient, above 0; None does not clip.
        decay_bias_and_norm: whether weight decay also shrinks biases, and all other parameters of one
            dimension: those of norm layers, above all.
        ema: how the student's weights are averaged over the steps; None does not.

    Raises:
        InputError: `clip` is no number above 0, or warm-up and cool-down are longer than the training.
    """

    epochs: int = 30
    optimizer: Mapping[str, Any] = field(default_factory=lambda: {"name": "sgd", "lr": 0.05, "momentum": 0.9})
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"name": "cosine"})
    accumulate: int = 1
    clip: float | None = None
    decay_bias_and_norm: bool = True
    ema: Averaging | None = None

    def __post_init__(self) -> None:
        # A norm of 0 would stop all learning, and a negative one turn the gradient round.
        if self.clip is not None and not _above_zero(self.clip):
            raise InputError(
                f"train.clip: must be a number above 0, or None for no clipping, given {self.clip!r}."
            )
        check_fits(self.schedule, self.epochs, "train")


def check_fits(
    schedule: Mapping[str, Any], epochs: int, place: str, *, where: str = "", hint: str = ""
) -> None:
    """See whether warm-up and cool-down leave room for each other; together they may fill the training.

    Longer ones would keep the rate away from its top, or leave it at its end, in silence.

    Args:
        schedule: as of `Training`.
        epochs: how long it is; 0 trains nothing, and everything fits.
        place: what has `schedule` and `epochs`, for messages.
        where: the recipe, likewise.
        hint: how the message ends.

    Raises:
        InputError: they are too long, or no numbers.
    """
    cycles = schedule.get("cycles") or 1
    if epochs and cycles > epochs:
        raise InputError(
            f"{where}{place}.schedule.cycles: must be at most {place}.epochs ({epochs}), given "
            f"{cycles}.{hint}"
        )
    parts = {key: _epochs(schedule, key, f"{where}{place}.schedule") for key in _ends(schedule)}
    if epochs and sum(parts.values()) > epochs + 1e-9:  # decimals such as .7 and .3 may miss their sum
        told = " and ".join(f"{key}: {length:g}" for key, length in parts.items() if length)
        raise InputError(f"{where}{place}.schedule.{told} must fit into {place}.epochs: {epochs}.{hint}")


def shortened(settings: Training, epochs: int) -> Training:
    """The same training in another number of epochs.

    Where warm-up and cool-down would not fit into these, they keep their shares of the whole.
    """
    schedule = dict(settings.schedule)
    ends = {key: _epochs(schedule, key, "train.schedule") for key in _ends(schedule)}
    if settings.epochs and sum(ends.values()) > epochs:
        schedule |= {key: length * epochs / settings.epochs for key, length in ends.items() if length}
    return replace(settings, epochs=epochs, schedule=schedule)


def _ends(schedule: Mapping[str, Any]) -> tuple[str, ...]:
    """What stands before and behind the curve of this schedule."""
    cools = schedule.get("name", "cosine") in ("cosine", "polynomial")
    return ("warmup_epochs", "cooldown_epochs") if cools else ("warmup_epochs",)


def _epochs(schedule: Mapping[str, Any], key: str, place: str) -> float:
    value = schedule.get(key) or 0
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= 0:
        raise InputError(f"{place}.{key}: must be a number from 0 up, given {value!r}.")
    return float(value)


def _above_zero(value: object) -> bool:
    """Whether a value is a number above 0; NumPy's count as well."""
    return not isinstance(value, bool) and isinstance(value, Real) and float(value) > 0


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
