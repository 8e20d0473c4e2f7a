"""The figures of a run as `result.json` has them."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from limbeck import __version__, models
from limbeck.data import Data
from limbeck.evaluation.statistics import paired_interval
from limbeck.evaluation.tasks import TASK_FIGURES
from limbeck.outcome import Outcome
from limbeck.recipe import Recipe, StageSpec
from limbeck.teachers import Fixed
from limbeck.training.runtime import Runtime

__all__ = ["Taught", "by_seed", "common", "gain", "others", "seconds", "size", "stages_told", "teacher_told"]


@dataclass(frozen=True, slots=True)
class Taught:
    """The teacher of a run, the seconds that its training took, and its figures on the test set.

    Of several teachers these are of all together, and `members` is what `result.json` says of each.
    """

    teacher: Fixed | None
    seconds: float
    figures: dict[str, Any] | None
    members: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def common(recipe: Recipe, data: Data, runtime: Runtime) -> dict[str, Any]:
    """What every result begins with."""
    return {
        "name": recipe.name,
        "limbeck": __version__,
        "seeds": list(recipe.seed_list),
        "metric": recipe.metric,
        "classes": list(data.classes),
        "environment": _environment(runtime),
    }


def teacher_told(taught: Taught, metric: str) -> dict[str, Any] | None:
    """The teacher's figures and size; None where there is no teacher."""
    if taught.teacher is None or taught.figures is None:
        return None
    return {
        "accuracy": taught.figures["accuracy"],
        # A teacher of one task among two knows no other figure of it.
        metric: taught.figures.get(metric, taught.figures["accuracy"]),
        **size(taught.teacher.plain()),
        "frozen": True,
        **{k: taught.figures[k] for k in ("loss", "ece", "per_class")},
        **({"metrics": taught.figures["metrics"]} if taught.figures["metrics"] else {}),
    }


def gain(control: list[Outcome], student: list[Outcome], metric: str) -> dict[str, Any] | None:
    """The paired gain over the control, where both have figures."""
    before, after = ([_value(o, metric) for o in side] for side in (control, student))
    pairs = [(a, b) for a, b in zip(before, after, strict=False) if a is not None and b is not None]
    if not pairs or len(pairs) < len(student):
        return None
    return paired_interval([a for a, _ in pairs], [b for _, b in pairs]).to_json()


def _value(outcome: Outcome, metric: str) -> float | None:
    """A figure of an evaluation, one of its further ones among them."""
    found: float | None = {**outcome.evaluation["metrics"], **outcome.evaluation}[metric]
    return found


def by_seed(outcomes: list[Outcome], metric: str) -> dict[str, Any]:
    """Lists by seed."""
    rows: dict[str, Callable[[Outcome], Any]] = {
        metric: lambda o: _value(o, metric),
        "accuracy": lambda o: o.evaluation["accuracy"],
        "best": lambda o: o.best if metric == "accuracy" else None,
        "agreement": lambda o: o.evaluation["agreement"],
        "ece": lambda o: o.evaluation["ece"],
        "loss": lambda o: o.evaluation["loss"],
        "kl": lambda o: o.evaluation["kl"],
        "per_class": lambda o: o.evaluation["per_class"],
    }
    if outcomes[0].evaluation["validation"] is not None:
        rows["validation"] = lambda o: o.evaluation["validation"]
        rows["checkpoints"] = lambda o: o.evaluation["checkpoints"]
        rows["taken"] = lambda o: o.evaluation["taken"]
    found: dict[str, Any] = {name: [read(o) for o in outcomes] for name, read in rows.items()}
    further = [name for name in outcomes[0].evaluation["metrics"] if name not in TASK_FIGURES]
    if further:
        found["metrics"] = {name: [o.evaluation["metrics"][name] for o in outcomes] for name in further}
    return found


def others(outcomes: list[Outcome]) -> dict[str, Any]:
    """What learned beside the student, under its scheme's word for it: figures by network, each by seed."""
    first = outcomes[0].evaluation.get("others", {})
    return {
        word: {
            name: {
                figure: value
                if figure == "parameters"
                else [o.evaluation["others"][word][name][figure] for o in outcomes]
                for figure, value in found.items()
            }
            for name, found in networks.items()
        }
        for word, networks in first.items()
    }


def size(model: nn.Module) -> dict[str, int]:
    """Parameters, and the bytes that they take in memory and on disk."""
    return {
        "parameters": models.parameters(model),
        "bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }


def seconds(outcomes: list[Outcome]) -> float:
    """What some trainings took together."""
    return round(sum(o.seconds for o in outcomes), 1)


def stages_told(stages: Sequence[StageSpec] | None) -> dict[str, Any]:
    """What came before the objective, where anything did."""
    return {"stages": [stage.model_dump(mode="json") for stage in stages]} if stages else {}


def _environment(runtime: Runtime) -> dict[str, Any]:
    import numpy
    import timm
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "numpy": numpy.__version__,
        "device": str(runtime.device),
        "threads": torch.get_num_threads(),
        "processes": runtime.world,
        "precision": runtime.precision,
        "compile": runtime.compile,
        "machine": platform.machine(),
        "date": time.strftime("%Y-%m-%d"),
    }
