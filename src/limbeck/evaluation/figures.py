"""Further figures of an evaluation, by name: torchmetrics' classes for multi-class classification.

`topK` counts an answer as right when the label is among its K most probable classes. Figures that take a
mean over classes (`f1`, `precision`, `recall`, `specificity`, `jaccard`, `auroc`, `average_precision`,
`balanced_accuracy`) weigh all classes alike (macro) unless `average` says otherwise.
"""

import math
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import InputError, unknown
from limbeck.importing import find_callable

__all__ = ["BASIC", "Figures", "names"]

BASIC = {"accuracy": True, "loss": False, "ece": False}
"""The figures that every evaluation has, and whether more is better."""

_KNOWN: dict[str, tuple[str, dict[str, Any]]] = {
    "average_precision": ("MulticlassAveragePrecision", {}),
    "auroc": ("MulticlassAUROC", {}),
    "balanced_accuracy": ("MulticlassAccuracy", {"average": "macro"}),
    "cohen_kappa": ("MulticlassCohenKappa", {}),
    "f1": ("MulticlassF1Score", {}),
    "fbeta": ("MulticlassFBetaScore", {"beta": 2.0}),
    "jaccard": ("MulticlassJaccardIndex", {}),
    "matthews": ("MulticlassMatthewsCorrCoef", {}),
    "precision": ("MulticlassPrecision", {}),
    "recall": ("MulticlassRecall", {}),
    "specificity": ("MulticlassSpecificity", {}),
}
_TOP = re.compile(r"top([1-9][0-9]{0,3})")


def names() -> list[str]:
    """Every figure that a recipe can ask for by a bare word."""
    return [*sorted(_KNOWN), "top5"]


class Figures:
    """Some figures, ready to be computed.

    Args:
        wanted: by the name that results give it: `metric` (a name of `names()`, `topK`, or a class as
            `package.module:Class`; the figure's own name where it is left out) and the metric's options.
        classes: number of classes, at least 2.
        beside: the recipe's folder, where a user's own class may lie.

    Raises:
        InputError: a name that nobody knows, or options that the metric refuses.
    """

    def __init__(
        self, wanted: Mapping[str, Mapping[str, Any]], classes: int, beside: Path | None = None
    ) -> None:
        self._metrics = {
            name: _built(name, dict(options), classes, beside) for name, options in wanted.items()
        }

    @property
    def rising(self) -> dict[str, bool]:
        """Whether more is better, of every figure: these and those of every evaluation."""
        own = {name: metric.higher_is_better is not False for name, metric in self._metrics.items()}
        return {**BASIC, **own}

    def __call__(self, logits: Tensor, labels: Tensor) -> dict[str, float]:
        """The figures of some answers.

        Args:
            logits: [N, C], float.
            labels: class indices [N], all known.

        Returns:
            One number for each name; NaN where there is no sample.

        Raises:
            InputError: a metric fails, or does not answer one number.
        """
        return {name: _value(name, metric, logits, labels) for name, metric in self._metrics.items()}


def _built(name: str, options: dict[str, Any], classes: int, beside: Path | None) -> Any:
    where = f"metrics.{name}"
    if name in BASIC:
        raise InputError(f"{where}: every evaluation has this figure; leave it out.")
    wanted = str(options.pop("metric", None) or name)
    kind, own = _kind(wanted, where, beside)
    try:
        return kind(**{"num_classes": classes, **own, **options})
    except Exception as error:  # a user's class may raise anything
        raise InputError(f"{where}: {wanted} cannot be made for {classes} classes: {error}") from error


def _kind(wanted: str, where: str, beside: Path | None) -> tuple[Any, dict[str, Any]]:
    """The class of a metric, and the options that it gets here."""
    from torchmetrics import classification

    top = _TOP.fullmatch(wanted)
    if top:
        return classification.MulticlassAccuracy, {"top_k": int(top[1]), "average": "micro"}
    if wanted in _KNOWN:
        kind, own = _KNOWN[wanted]
        return getattr(classification, kind), own
    if ":" in wanted:
        return find_callable(wanted, beside=beside, where=where, prefix=""), {}
    raise unknown("metric", wanted, [*names(), "package.module:Class"], where=where)


def _value(name: str, metric: Any, logits: Tensor, labels: Tensor) -> float:
    if not len(labels):
        return math.nan
    metric.reset()
    try:
        with warnings.catch_warnings():
            # A class without samples: torchmetrics leaves it out of the mean, and says so each time.
            warnings.simplefilter("ignore")
            found = metric(logits.softmax(1), labels)
    except Exception as error:  # a user's class may raise anything
        raise InputError(f"metrics.{name}: fails with {type(error).__name__}: {error}") from error
    if not isinstance(found, Tensor) or found.numel() != 1:
        shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise InputError(f"metrics.{name}: must come to one number (average: macro, say); it gives {shape}.")
    return float(found)
