"""Who is compared on which task."""

from peers import plain, with_limbeck, with_timm, with_torchdistill
from peers.side import RIVAL, Side
from peers.standins import backend, cached

__all__ = ["IMAGES", "PLAIN", "TINY"]

PLAIN = "plain loop"
"""The side that all others are measured by."""

_LOADED = "torchdistill, its loader"


def _backed(name: str, goal: float, exact: bool = True) -> Side:
    """A compiled student, and a teacher that one of Limbeck's backends runs."""
    return Side(
        f"Limbeck, compiled, teacher by {name}",
        lambda task: with_limbeck.with_limbeck(task, compiled=True, teacher=backend(name, task)),
        exact,
        goal=goal,
    )


IMAGES = [
    Side(PLAIN, plain.plain),
    Side("plain loop, channels last", lambda task: plain.plain(task, channels_last=True)),
    Side(
        "plain loop, channels last, compiled",
        lambda task: plain.plain(task, channels_last=True, compiled=True),
    ),
    Side(RIVAL, with_torchdistill.the_step),
    Side(
        _LOADED,
        with_torchdistill.with_loader,
        rival=_LOADED,
        check=lambda task: with_torchdistill.with_loader(task, augmented=False),
    ),
    Side("timm, its task", with_timm.with_timm),
    Side(
        "timm, channels last, compiled",
        lambda task: with_timm.with_timm(task, channels_last=True, compiled=True),
    ),
    Side("Limbeck", with_limbeck.with_limbeck),
    Side(
        "Limbeck, compiled",
        lambda task: with_limbeck.with_limbeck(task, compiled=True),
        goal=1.5,
    ),
    Side(
        "Limbeck, compiled, its loader",
        with_limbeck.with_loader,
        check=lambda task: with_limbeck.with_loader(task, compiled=False, augmented=False),
        rival=_LOADED,
    ),
    _backed("compile", 1.5),
    _backed("onnxruntime", 1.55),
    _backed("openvino", 1.55),
    _backed("int8", 2.1, exact=False),
    Side(
        "Limbeck, compiled, teacher cached",
        lambda task: with_limbeck.with_limbeck(task, compiled=True, teacher=cached(task)),
        exact=False,
        goal=2.6,
    ),
]
"""The sides on images. Those that are compiled, by whomever, compile both networks."""

TINY = [
    Side(PLAIN, plain.plain),
    Side("plain loop, compiled", lambda task: plain.plain(task, compiled=True)),
    Side(RIVAL, with_torchdistill.the_step),
    Side("timm, its task", with_timm.with_timm),
    Side("timm, compiled", lambda task: with_timm.with_timm(task, compiled=True)),
    Side("Limbeck", with_limbeck.with_limbeck),
    Side("Limbeck, compiled", lambda task: with_limbeck.with_limbeck(task, compiled=True)),
]
"""The sides on networks that are nothing but overhead."""
