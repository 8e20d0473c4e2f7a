"""Running an ONNX file in ONNX Runtime on the CPU, as the machine that it is shipped to would."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import InputError, WorkError

__all__ = ["OnnxModel", "first_line"]

ERRORS_ONLY = 3


class OnnxModel:
    """An ONNX file with one input and one or more outputs, of which the first is the logits.

    Args:
        path: the file.
        threads: threads within an operator; operators run one after the other.

    Attributes:
        metadata: what the exporter wrote into the file (labels, normalisation, …), text by text.
        input: the name of its input.
        shape: the input's shape; a number that is free (the batch) is None.

    Raises:
        InputError: the file is missing, truncated, no ONNX model, needs operators that this ONNX Runtime
            does not have, or takes anything but one float32 tensor.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        import onnxruntime

        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f'no such file: "{self.path}"')
        if threads < 1:
            raise InputError(f"threads must be at least 1; got {threads}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        try:
            session = onnxruntime.InferenceSession(
                str(self.path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's errors share no base class but this one
            raise InputError(
                f'"{self.path}" is not an ONNX model that ONNX Runtime can load: {first_line(error)}'
            ) from error
        inputs = session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            taken = ", ".join(f"{entry.name}: {entry.type}" for entry in inputs) or "nothing"
            raise InputError(f'"{self.path}" must take one tensor(float); it takes {taken}')
        self._session: Any = session
        self.input: str = inputs[0].name
        self._output: str = session.get_outputs()[0].name
        self.shape: tuple[int | None, ...] = tuple(
            size if isinstance(size, int) and size > 0 else None for size in inputs[0].shape
        )
        self.metadata: Mapping[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def __call__(self, images: Tensor) -> Tensor:
        """The logits [B, C] of samples [B, ...], both float32 on the CPU.

        Raises:
            InputError: the shape does not fit the model.
            WorkError: the model fails while it runs.
        """
        return self._run(images, [self._output])[0]

    def outputs(self, images: Tensor) -> list[Tensor]:
        """All outputs of samples [B, ...], the logits first; a call works out the logits alone."""
        return self._run(images, None)

    def _run(self, images: Tensor, names: list[str] | None) -> list[Tensor]:
        if not self._fits(images):
            wanted = ", ".join("B" if size is None else str(size) for size in self.shape)
            raise InputError(f'"{self.path}" takes [{wanted}]; got {list(images.shape)}')
        array = images.detach().cpu().float().contiguous().numpy()
        try:
            found = self._session.run(names, {self.input: array})
        except Exception as error:  # as above
            raise WorkError(f'"{self.path}" fails while it runs: {first_line(error)}') from error
        return [torch.from_numpy(value) for value in found]

    def _fits(self, images: Tensor) -> bool:
        return len(self.shape) == images.ndim and all(
            wanted is None or wanted == size for wanted, size in zip(self.shape, images.shape, strict=True)
        )


def first_line(error: BaseException) -> str:
    """The first line of an error's text; the rest goes to the log at debug level."""
    logging.getLogger(__name__).debug("%s", error)
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
