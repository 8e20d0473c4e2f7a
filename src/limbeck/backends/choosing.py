"""`auto`: the fastest exact backend, found by timing all of them on the real batch."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.backends import timing
from limbeck.backends.base import Backend
from limbeck.backends.building import build, offered
from limbeck.errors import InputError
from limbeck.export.runtime import first_line
from limbeck.knowledge import Knowledge
from limbeck.taps import Tapped

__all__ = ["Choice", "choose"]

WORTH = 0.97
"""Share of eager's time that another backend may take: less of a gain is not worth its start."""
LOGITS = 1e-3
FEATURES = 1e-3
TF32 = 2.0**-10
"""Relative rounding of what convolutions multiply on recent GPUs, unless they are told not to."""
MOST_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        name: of the backend; a resumed run takes it again by `build(name, ...)`.
        ratios: time of each that was timed relative to eager's, the median over the rounds.
        refused: those that were not, with the reason.
        backend: the one chosen, built.
    """

    name: str
    ratios: dict[str, float]
    refused: dict[str, str]
    backend: Backend


def _silent(text: str) -> None:
    pass


def choose(
    network: Tapped,
    example: Tensor,
    *,
    threads: int,
    seconds: float = 20.0,
    tell: Callable[[str], None] = _silent,
) -> Choice:
    """Take the fastest of the exact backends, if it is faster than eager by 3 % or more.

    Each is built, must answer the example as eager does, and is then timed on it, in turns with the others:
    CPU time of this process by thread on a CPU, time of day on a GPU. Answers may differ by 1e-3 in a logit,
    and in a feature by 1e-3 of the largest one of its tap; under autocast, or where a GPU multiplies in TF32,
    by a few roundings of that format.

    Args:
        network: stays untouched.
        example: the batch to time; as for `build`.
        threads: as for `build`.
        seconds: for answering and timing, not for building; about.
        tell: takes lines of text on what is going on.
    """
    clock = timing.clock(example.device, threads)
    eager = build("eager", network, example)
    wanted, first = _timed(eager, example, clock)
    built, spent, refused = {"eager": eager}, {"eager": [first]}, {}
    for name in offered(network, example.device):
        if name == "eager":
            continue
        tell(f"building {name}")
        try:
            backend = build(name, network, example, threads=threads)
            built[name] = backend
            answer, first = _timed(backend, example, clock)
            reason = difference(wanted, answer, network, example.device)
        except Exception as error:  # another library's failure must not end a run that does not need it
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            reason = kind + first_line(error)
        if reason is None:
            spent[name] = [first]
            continue
        refused[name] = reason
        tell(f"{name} is not taken: {reason}")
        if name in built:
            built.pop(name).close()
    used = sum(times[0] for times in spent.values())
    # Each round takes about as long again; where there is no time for one, the first answers must do.
    if 2 * used <= seconds:
        calls = {name: _bound(backend, example) for name, backend in built.items()}
        spent = timing.rounds(calls, clock, MOST_ROUNDS, seconds - used)
    ratios = {
        name: statistics.median(a / b for a, b in zip(times, spent["eager"], strict=True))
        for name, times in spent.items()
    }
    best = min(ratios, key=lambda name: ratios[name])
    best = best if ratios[best] <= WORTH else "eager"
    for name, backend in built.items():
        if name != best:
            backend.close()
    tell(f"{best}: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()))
    return Choice(best, ratios, refused, built[best])


def _timed(backend: Backend, example: Tensor, clock: Callable[[], float]) -> tuple[Knowledge, float]:
    begin = clock()
    answer = backend(example)
    return answer, clock() - begin


def difference(wanted: Knowledge, got: Knowledge, network: Tapped, device: torch.device) -> str | None:
    """Why two answers of one network are not the same; None: they are, up to rounding."""
    grain = _grain(device)
    what = ["logits", *(f'features of "{tap.text}"' for tap in network.taps)]
    pairs = zip((wanted.logits, *wanted.features), (got.logits, *got.features), strict=True)
    for name, (ours, theirs) in zip(what, pairs, strict=True):
        if ours.shape != theirs.shape:
            return f"its {name} are {list(theirs.shape)}, eager's {list(ours.shape)}"
        scale = float(ours.abs().max())
        allowed = max(LOGITS if name == "logits" else FEATURES * scale, grain * scale)
        found = float((ours - theirs).abs().max())
        if not found <= allowed:  # so that NaN is not let through
            return f"its {name} differ from eager's by {found:.3g}; allowed is {allowed:.3g}"
    return None


def _grain(device: torch.device) -> float:
    """How far apart two orders of the same sums may end, relative to the largest, in less than float32."""
    if torch.is_autocast_enabled(device.type):
        return 4 * torch.finfo(torch.get_autocast_dtype(device.type)).eps
    return 4 * TF32 if device.type == "cuda" else 0.0


def _bound(backend: Backend, example: Tensor) -> Callable[[], object]:
    return lambda: backend(example)
