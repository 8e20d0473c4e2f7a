"""Steps of a training tried out on a few samples, so that what they are and cost is known without it."""

import time
from typing import Any

import numpy as np

from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED
from limbeck.objective import Objective, Term
from limbeck.pace import LONG, SMALL
from limbeck.schemes import Scheme
from limbeck.staging import spans
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

__all__ = ["final_weight", "try_stages", "try_step"]


def try_stages(
    scheme: Scheme,
    whole: Training,
    batch_size: int,
    data: Data,
    runtime: Runtime,
    steps: int,
    place: str = "",
) -> tuple[list[dict[str, Any]], float]:
    """What each stage of the student's training is, the objective itself last, and the seconds of all."""
    found, seconds = [], 0.0
    for number, (chosen, span) in enumerate(spans(scheme.objective, whole)):
        scheme.enter(number)
        losses, per_step = try_step(scheme, chosen, batch_size, data, runtime, steps, place)
        epochs = (whole.epochs if span.last is None else span.last) - span.first
        seconds += epochs * steps * per_step
        trains = "student" if span.student else "layers"
        terms = _terms(scheme.objective.current, losses)
        found.append({"name": span.stage, "epochs": epochs, "trains": trains, "terms": terms})
    return found, seconds


def try_step(
    scheme: Scheme,
    chosen: Training,
    batch_size: int,
    data: Data,
    runtime: Runtime,
    steps: int,
    place: str = "",
) -> tuple[dict[str, float], float]:
    """The terms' first values on a small batch, forward and back, and the seconds of a full step.

    Args:
        scheme: who learns from whom.
        chosen: how.
        batch_size: samples in a full step.
        data: what is learnt from.
        runtime: where.
        steps: number of steps in an epoch.
        place: what stands before `train` in the recipe, for messages.
    """
    try:
        trainer = Trainer(scheme, chosen, runtime, steps)
    except InputError as error:
        raise InputError(f"{place}{error}") from error

    # Samples with a label first, so that label terms have something to say.
    order = np.argsort(data.train.targets.numpy() == UNLABELLED, kind="stable")

    def timed(count: int) -> float:
        index = order[:count]
        begin = time.perf_counter()
        step = trainer.try_step([data.train.take(index, 0, trainer.seed)])
        if not losses:
            losses.update((name, float(value)) for name, value in step.items())
        return time.perf_counter() - begin

    losses: dict[str, float] = {}
    size = min(batch_size, len(data.train))
    small = min(size, SMALL)
    # The first step of all is slow for reasons of its own.
    reckoned = min(timed(small), timed(small)) * size / small
    return losses, reckoned if reckoned > LONG else min(timed(size), timed(size))


def _terms(objective: Objective, losses: dict[str, float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, term in objective.terms.items():
        found[name] = {
            "method": type(objective.method(name)).__module__.rsplit(".", 1)[-1],
            "weight": final_weight(term),
            "first_value": losses[name] if name in losses else _by_others(losses, name),
            "layers": term.layers,
        }
    return found


def _by_others(losses: dict[str, float], term: str) -> float | None:
    """The mean of a term's values where the student itself does not learn by it: those of its exits, say."""
    found = [value for name, value in losses.items() if name.endswith(f".{term}")]
    return sum(found) / len(found) if found else None


def final_weight(term: Term) -> float:
    """The weight that a term ends with."""
    return term.weight if isinstance(term.weight, int | float) else term.weight.end
