"""The student in 8 bits: weights and activations, by ONNX Runtime's static quantisation.

Quantise and dequantise operators (QDQ) are put around each operator; weights get one scale for each output
channel, activations one for each tensor, from their smallest and largest value on calibration samples.
Activations are unsigned: on x86 the signed kernels were slower than float ones (measured on a ResNet-20 at
batch 1: signed 1.06 ms, float .89 ms, unsigned .42 ms). Weights keep to 7 bits (`reduce_range`), because
x86 processors without VNNI add two unsigned-by-signed products in 16 bits, which 8-bit weights overflow.
These are training samples: test samples would choose the scales on what the result is judged by.
"""

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.errors import InputError, WorkError
from limbeck.export.runtime import OnnxModel, first_line
from limbeck.files import atomic_folder, install

__all__ = ["quantize_static"]


def quantize_static(onnx_path: Path, calibration: Iterable[Tensor], path: Path) -> Path:
    """Write the 8-bit form of an ONNX file.

    Args:
        onnx_path: the float file, as `export_onnx` writes it; its metadata are kept.
        calibration: batches [B, ...] of TRAINING samples, prepared as for the float file; a few hundred
            samples are enough.
        path: where to write; replaced only by a finished file.

    Returns:
        `path`.

    Raises:
        InputError: the float file is missing or unusable, or there are no calibration samples.
        WorkError: the network cannot be quantised (the message says why), or the disk is full.
    """
    source = OnnxModel(onnx_path)
    reader = _Reader(source, calibration)
    with atomic_folder(path) as folder:
        written = folder / path.name
        try:
            with _quiet():
                prepared = _prepare(onnx_path, folder)
                _quantize(prepared, written, reader)
        except (InputError, WorkError, OSError):
            raise
        except Exception as error:  # the quantiser raises whatever its parts raise
            raise WorkError(
                f'int8: ONNX Runtime cannot quantise "{onnx_path}": {type(error).__name__}: '
                f"{first_line(error)}; the float file is unaffected"
            ) from error
        _finish(written, source)
        install(written, path)
    return path


class _Reader:
    """Calibration samples in the form that the quantiser asks for: one mapping at a time, then None."""

    def __init__(self, model: OnnxModel, batches: Iterable[Tensor]) -> None:
        self._name = model.input
        self._batches = iter(batches)
        first = next(self._batches, None)
        if first is None or len(first) == 0:
            raise InputError("int8: there is no calibration sample")
        model(first)  # a shape that does not fit is named here, before the long part
        self._next: Tensor | None = first

    def get_next(self) -> dict[str, Any] | None:
        if self._next is None:
            return None
        array = self._next.detach().cpu().float().contiguous().numpy()
        self._next = next(self._batches, None)
        return {self._name: array}

    def __iter__(self) -> "_Reader":
        return self

    def __next__(self) -> dict[str, Any]:
        entry = self.get_next()
        if entry is None:
            raise StopIteration
        return entry


def _prepare(onnx_path: Path, folder: Path) -> Path:
    """Fold constants and find every tensor's shape, without which it could not be quantised."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    try:
        quant_pre_process(str(onnx_path), str(prepared))
    except Exception as error:  # the symbolic part knows few operators, ONNX's own inference all
        logging.getLogger(__name__).debug("int8: symbolic shape inference failed: %s", error)
        quant_pre_process(str(onnx_path), str(prepared), skip_symbolic_shape=True)
    return prepared


def _quantize(prepared: Path, written: Path, reader: _Reader) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType
    from onnxruntime.quantization import quantize_static as quantize

    quantize(
        str(prepared),
        str(written),
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        reduce_range=True,
    )


def _finish(written: Path, source: OnnxModel) -> None:
    """Carry the metadata over, and refuse a file that does not load or has nothing quantised in it."""
    import onnx

    proto = onnx.load(str(written))
    if not any(node.op_type == "QuantizeLinear" for node in proto.graph.node):
        raise WorkError(f'int8: "{source.path}" has no operator that ONNX Runtime can quantise')
    del proto.metadata_props[:]
    for key, text in {**source.metadata, "quantization": "int8 static"}.items():
        proto.metadata_props.add(key=key, value=text)
    onnx.save_model(proto, str(written))
    OnnxModel(written)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's advice off standard output and out of the caller's root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            yield
    finally:
        logging.disable(before)
