"""How fast and how large: latency by interleaved rounds, bytes of the file that is shipped.

One call is timed at a time, on the wall clock. Candidates take turns within each round, and the one that
begins changes from round to round, so that a machine that slows down or speeds up meanwhile does so for
all of them. The median is the result; the 95th percentile tells how noisy the machine was.
"""

import copy
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.errors import InputError

__all__ = ["cpu_copy", "latency", "measure", "model_file_bytes", "onnx_runner", "torch_runner"]

LEAST_ROUNDS = 5


def measure(
    calls: Mapping[str, Callable[[], object]],
    *,
    threads: int = 1,
    rounds: int = 50,
    warmup: int = 5,
    seconds: float = 10.0,
) -> dict[str, dict[str, float | int]]:
    """Time several candidates side by side.

    Args:
        calls: what to time, by name; each call does the whole work (one batch) and returns when it is done.
        threads: torch's threads while measuring, restored afterwards. An ONNX session has its own number,
            which `onnx_runner` sets.
        rounds: timed calls of each candidate, at least 1.
        warmup: calls of each candidate before, not timed.
        seconds: no further round starts after this time, once there are 5; large models on small machines
            answer within a minute this way.

    Returns:
        For each name `median_ms`, `p95_ms` (both of one call) and `rounds` (timed calls).

    Raises:
        InputError: nothing to time, or a number out of range.
    """
    if not calls:
        raise InputError("measure: there is nothing to time")
    for name, value, least in (("threads", threads, 1), ("rounds", rounds, 1), ("warmup", warmup, 0)):
        if value < least:
            raise InputError(f"measure: {name} must be at least {least}; got {value}")
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    with _threads(threads), _no_collection():
        for name in names:
            for _ in range(warmup):
                calls[name]()
        start = time.perf_counter()
        for turn in range(rounds):
            if turn >= LEAST_ROUNDS and time.perf_counter() - start > seconds:
                break
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                begin = time.perf_counter()
                calls[name]()
                times[name].append(time.perf_counter() - begin)
    return {name: _summary(values) for name, values in times.items()}


def latency(
    call: Callable[[], object],
    *,
    threads: int = 1,
    rounds: int = 50,
    warmup: int = 5,
    seconds: float = 10.0,
) -> dict[str, float | int]:
    """Time one candidate; arguments and result as in `measure`."""
    return measure({"": call}, threads=threads, rounds=rounds, warmup=warmup, seconds=seconds)[""]


def cpu_copy(model: nn.Module) -> nn.Module:
    """A copy on the CPU, in float32 and eval mode; the model itself, its mode included, stays untouched."""
    return copy.deepcopy(model).cpu().float().eval()


def torch_runner(model: nn.Module, example: Tensor) -> Callable[[], object]:
    """A call that answers `example` [B, ...] with a copy of the model, on the CPU, in float32."""
    model, example = cpu_copy(model), example.detach().cpu().float()

    def call() -> object:
        with torch.inference_mode():
            return model(example)

    return call


def onnx_runner(path: Path, example: Tensor, threads: int = 1) -> Callable[[], object]:
    """A call that answers `example` [B, ...] with an ONNX file in ONNX Runtime, on the CPU.

    Raises:
        InputError: the file is missing or no usable ONNX model.
    """
    from limbeck.export.runtime import OnnxModel

    model, example = OnnxModel(path, threads=threads), example.detach().cpu().float()
    return lambda: model(example)


def model_file_bytes(path: Path) -> int:
    """Size of a model's file, with the data file beside it that an ONNX model above 2 GB has.

    Raises:
        InputError: there is no such file.
    """
    if not path.is_file():
        raise InputError(f'no such file: "{path}"')
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.is_file() else 0)


def _summary(values: list[float]) -> dict[str, float | int]:
    ordered = sorted(values)
    late = ordered[math.ceil(0.95 * len(ordered)) - 1]  # nearest rank
    return {"median_ms": 1e3 * statistics.median(ordered), "p95_ms": 1e3 * late, "rounds": len(ordered)}


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector out of the timed calls."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
