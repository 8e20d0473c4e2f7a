"""What a training finds: the lines of its epochs, and the record that it leaves."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.evaluation.metrics import Evaluation
from limbeck.training.checkpoint import write_atomically
from limbeck.training.settings import Span
from limbeck.training.trainer import Step

__all__ = ["Outcome", "epoch_figures", "epoch_line", "finite", "worth_a_line"]

RECORD = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished training says.

    Attributes:
        evaluation: the final figures on the test set, as JSON.
        history: one entry an epoch: epoch, accuracy, loss.
        seconds: time spent training, evaluations between the epochs included.
        file: the weights.
    """

    evaluation: dict[str, Any]
    history: list[dict[str, Any]]
    seconds: float
    file: Path

    @property
    def best(self) -> float | None:
        """The best accuracy of any epoch, as the literature reports it."""
        found = [*(h["accuracy"] for h in self.history), self.evaluation["accuracy"]]
        return max((float(value) for value in found if value is not None), default=None)

    @classmethod
    def read(cls, file: Path) -> "Outcome | None":
        """What a training left beside its weights; None: it is not done."""
        record = file.parent / RECORD
        if not (file.exists() and record.exists()):
            return None
        found = json.loads(record.read_text())
        return cls(found["evaluation"], found["history"], found["seconds"], file)

    def write(self, *, role: str, seed: int, parameters: int) -> None:
        """Leave the record beside the weights, which are there already.

        Raises:
            WorkError: the disk is full, or the folder cannot be written.
        """
        record = {
            "role": role,
            "seed": seed,
            "evaluation": self.evaluation,
            "history": self.history,
            "seconds": self.seconds,
            "parameters": parameters,
        }
        write_atomically(self.file.parent / RECORD, json.dumps(record, indent=1))


def epoch_line(
    role: str, seed: int, span: Span, step: Step, number: int, losses: dict[str, float]
) -> dict[str, Any]:
    """How an epoch's line begins.

    Args:
        role: of the training.
        seed: of it.
        span: the stretch of it that runs.
        step: the last of the epoch.
        number: steps of all stages so far.
        losses: means over the epoch.
    """
    trains = {"stage": span.stage, "trains": "student" if span.student else "layers"} if span.stage else {}
    begin = {"role": role, "seed": seed, **trains, "epoch": step.epoch, "step": number}
    return {**begin, "lr": step.lr, "losses": losses}


def epoch_figures(found: Evaluation, held_out: Evaluation | None) -> dict[str, Any]:
    """What an epoch's line says of its evaluations."""
    told: dict[str, Any] = {"accuracy": found.figure("accuracy"), "test_loss": found.figure("loss")}
    if found.metrics:
        told["metrics"] = {name: found.figure(name) for name in found.metrics}
    if held_out is not None:
        told["validation_accuracy"] = held_out.figure("accuracy")
        told["validation_loss"] = held_out.figure("loss")
        if held_out.metrics:
            told["validation_metrics"] = {name: held_out.figure(name) for name in held_out.metrics}
    return told


def finite(losses: dict[str, Tensor]) -> dict[str, float]:
    """The losses of a step as numbers, without those that are not finite."""
    found = {name: float(value) for name, value in losses.items()}
    return {n: v for n, v in found.items() if math.isfinite(v)}


def worth_a_line(epoch: int, epochs: int) -> bool:
    """Whether an epoch is told of: ten or twenty lines a training, however long it is."""
    every = max(1, epochs // 10)
    return epoch % every == 0 or epoch == epochs
