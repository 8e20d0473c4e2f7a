"""ONNX files run by OpenVINO on the CPU. An optional extra: `pip install limbeck[openvino]`."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import InputError, WorkError

__all__ = ["OpenVinoModel"]

REPORTING = "openvino_telemetry"


class OpenVinoModel:
    """An ONNX file with one input.

    Args:
        path: the file; not needed once it is loaded.
        threads: threads within an operator.

    Raises:
        InputError: OpenVINO is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        openvino = _openvino()
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Left to itself it computes in bf16 where the processor can, and ties its threads to cores that
            # the student's want too.
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            core = openvino.Core()
            compiled = core.compile_model(core.read_model(str(path)), "CPU", options)
        except Exception as error:  # OpenVINO raises RuntimeError and types of its own
            raise InputError(f"OpenVINO cannot load this network: {_reason(error)}") from error
        self._places = len(compiled.outputs)
        self._request: Any = compiled.create_infer_request()

    def outputs(self, input: Tensor) -> list[Tensor]:
        """All outputs for a batch [B, ...], float32 on the CPU, in the file's order.

        Raises:
            WorkError: the network fails while it runs.
        """
        array = input.detach().cpu().float().contiguous().numpy()
        try:
            found = self._request.infer([array], share_inputs=True)
        except Exception as error:  # as above
            raise WorkError(f"OpenVINO fails on input {list(input.shape)}: {_reason(error)}") from error
        return [torch.from_numpy(found[place]) for place in range(self._places)]


def _openvino() -> Any:
    """The library, without what reports its import to its maker.

    Importing it sends a message over the network, from a process that it forks, unless that part is missing:
    then its own stand-in, which sends nothing, takes the place.
    """
    held = sys.modules.get(REPORTING)
    sys.modules[REPORTING] = None  # type: ignore[assignment]  # Python's own way to say: not to be imported
    try:
        import openvino
    except ImportError as error:
        raise InputError(
            f"OpenVINO is not installed here ({error}): pip install 'limbeck[openvino]'."
        ) from error
    finally:
        if held is None:
            del sys.modules[REPORTING]
        else:
            sys.modules[REPORTING] = held
    return openvino


def _reason(error: Exception) -> str:
    """The last line of an error's text; those before it name places in OpenVINO's own source."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return lines[-1] if lines else type(error).__name__
