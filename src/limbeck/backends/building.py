"""A backend by its name, and which ones there are for a network."""

import importlib.util
import os
import shutil
from collections.abc import Iterable

import torch
from torch import Tensor

from limbeck.backends.base import EXACT, INT8, NAMES, WHERE, Backend
from limbeck.backends.compiled import Compiled
from limbeck.backends.eager import Eager
from limbeck.backends.exported import build_exported, build_int8
from limbeck.errors import InputError, unknown
from limbeck.taps import Tapped

__all__ = ["build", "hindrance", "offered"]

COMPILERS = ("g++", "clang++", "c++", "cl")


def build(
    name: str,
    network: Tapped,
    example: Tensor,
    *,
    threads: int | None = None,
    calibration: Iterable[Tensor] = (),
) -> Backend:
    """Make a network ready to be run in a named way.

    Args:
        name: one of `NAMES`. `int8` takes the library that is faster on the example, and its backend's name
            says which.
        network: stays untouched to the last bit, its hooks and modes included.
        example: a real batch [B, ...] as later ones will be: of the same size, memory order and device, and
            under the same autocast. Batches of another size are answered too, by `compile` more slowly.
        threads: of the library that runs an ONNX file; None: as many as torch has. The others have torch's.
        calibration: for `int8` alone, batches [B, ...] of TRAINING samples; a few hundred samples do.

    Raises:
        InputError: no such backend, or it cannot serve this network here; the message says what can.
    """
    if name not in NAMES:
        raise unknown("backend", name, NAMES, where=WHERE)
    reason = hindrance(name, network, example.device)
    if reason is not None:
        raise InputError(f"{WHERE}: {reason}")
    threads = torch.get_num_threads() if threads is None else threads
    if name == "eager":
        return Eager(network)
    if name == "compile":
        return Compiled(network, example)
    if name in EXACT:
        return build_exported(name, network, example, threads)
    libraries = [name.partition(":")[2]] if ":" in name else ["onnxruntime"]
    if name == "int8" and _installed("openvino"):
        libraries.append("openvino")
    return build_int8(name, network, example, threads, calibration, libraries)


def offered(network: Tapped, device: torch.device | str) -> tuple[str, ...]:
    """The exact backends that are installed and can serve this network on this device, `eager` first.

    Nothing is built: one of them may still fail to take the network.
    """
    device = torch.device(device)
    return tuple(name for name in EXACT if hindrance(name, network, device) is None)


def hindrance(name: str, network: Tapped, device: torch.device) -> str | None:
    """Why a backend cannot serve a network here, as far as can be seen without building it."""
    if name == "eager":
        return None
    if name == "compile":
        return _no_compiler(device)
    if device.type != "cpu":
        return f"{name} runs on the CPU alone, and the teacher is on {device}; use eager or compile."
    if name.endswith("openvino") and not _installed("openvino"):
        return (
            f"{name} needs OpenVINO, which is not installed here: pip install 'limbeck[openvino]'; or use "
            f"{name.replace('openvino', 'onnxruntime')}."
        )
    if name in INT8 and network.taps:
        read = ", ".join(f'"{tap.text}"' for tap in network.taps)
        return (
            f"{name} gives logits alone, and {read} of the teacher are read: layers are merged in 8 bits, so "
            "what one of them gives is no longer there. Use compile, onnxruntime or openvino."
        )
    return None


def _no_compiler(device: torch.device) -> str | None:
    if device.type == "cuda" and not _installed("triton"):
        return "compile needs Triton on a GPU, and it is not installed; use eager."
    named = os.environ.get("CXX", "")
    if device.type == "cpu" and not any(shutil.which(one) for one in (named, *COMPILERS) if one):
        return (
            "compile needs a C++ compiler (g++, clang++ or the one that CXX names), and none is on the path; "
            "use eager or onnxruntime."
        )
    return None


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None
