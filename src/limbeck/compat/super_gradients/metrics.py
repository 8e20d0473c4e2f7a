"""SuperGradients' metrics, and what they and its names for watching come to."""

from collections.abc import Sequence

from limbeck.errors import InputError, unknown
from limbeck.evaluation.figures import names

__all__ = ["Accuracy", "Top5", "further", "watched"]


class Accuracy:
    """Top-1 accuracy of the student."""

    figure = "accuracy"


class Top5:
    """Share of samples whose label is among the student's five most probable classes."""

    figure = "top5"


_NAMES = {"accuracy": "accuracy", "top1": "accuracy", "top5": "top5", "loss": "loss"}
_LOSSES = ("labelsmoothingcrossentropyloss", "kdlogitsloss")


def _figure(metric: object, place: str) -> str:
    """The figure that a metric, its class, or its name stands for."""
    own = getattr(metric, "figure", None)
    if isinstance(own, str):
        return own
    if isinstance(metric, str):
        plain = metric.lower()
        if plain in _NAMES:
            return _NAMES[plain]
        if plain in names():
            return plain
        raise unknown("metric", metric, [*_NAMES, *names()], where=place)
    kind = type(metric).__name__
    raise InputError(f'{place}: must be Accuracy(), Top5(), or a name such as "f1"; given {kind}.')


def further(metrics: Sequence[object], place: str) -> list[str]:
    """The figures beyond accuracy and loss, which are always there.

    Raises:
        InputError: something that is no metric.
    """
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise InputError(f"{place}: must be a list of metrics, given {metrics!r}.")
    found = [_figure(metric, place) for metric in metrics]
    return list(dict.fromkeys(name for name in found if name not in ("accuracy", "loss")))


def watched(name: object, place: str) -> str:
    """The figure that a name for watching means; `KDLogitsLoss/…` and the like are the loss.

    Raises:
        InputError: no such figure.
    """
    if not isinstance(name, str):
        raise InputError(f"{place}: must be the name of a metric, given {name!r}.")
    if name.partition("/")[0].lower() in _LOSSES:
        return "loss"
    return _figure(name, place)
