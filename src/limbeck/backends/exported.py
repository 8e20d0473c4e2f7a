"""`onnxruntime`, `openvino` and `int8`: the network as an ONNX file, run by another library on the CPU.

The file is made by `limbeck.export`, with the input adapter in it and the taps as further outputs. It is
checked against the network at several batch sizes as it is written, and gone once it is loaded.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor, nn

from limbeck.backends import timing
from limbeck.backends.base import WHERE, Backend, float_knowledge
from limbeck.backends.eager import Eager
from limbeck.errors import InputError, WorkError
from limbeck.export.int8 import quantize_static
from limbeck.export.onnx import export_onnx
from limbeck.export.runtime import OnnxModel, first_line
from limbeck.knowledge import Knowledge
from limbeck.taps import Tapped

__all__ = ["Exported", "build_exported", "build_int8"]

Run = Callable[[Tensor], list[Tensor]]

EXAMPLES = 8
"""Samples that the exporter gets: as many as its check needs."""
ROUNDS = 5
"""Rounds in which two libraries run the 8-bit file; they differ by more than rounds do."""


class Exported(Backend):
    """An ONNX file in another library.

    Args:
        name: of the backend.
        run: gives the logits [B, C] and then the features of a batch [B, ...].
        network: answers samples of another shape than the file takes.
        example: a batch of the file's shape, with any number of samples.
    """

    def __init__(self, name: str, run: Run, network: Tapped, example: Tensor) -> None:
        self.name = name
        self._run: Run | None = run
        self._eager = Eager(network)
        self._sample = example.shape[1:]

    def __call__(self, input: Tensor) -> Knowledge:
        if input.shape[1:] != self._sample:
            return self._eager(input)
        assert self._run is not None, "closed"
        logits, *features = (value.to(input.device) for value in self._run(input))
        return float_knowledge(Knowledge(logits, tuple(features)))

    def close(self) -> None:
        self._run = None
        self._eager.close()


def build_exported(name: str, network: Tapped, example: Tensor, threads: int) -> Exported:
    """The network in float32, by `onnxruntime` or `openvino`.

    Raises:
        InputError: it cannot be exported, or the library cannot load the file.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = _export(name, network, example, Path(folder))
        return Exported(name, _load(name, path, threads), network, example)


def build_int8(
    name: str,
    network: Tapped,
    example: Tensor,
    threads: int,
    calibration: Iterable[Tensor],
    libraries: list[str],
) -> Exported:
    """The network in 8 bits, by the fastest of some libraries.

    Args:
        name: as it was asked for, for messages.
        network: without taps.
        example: a batch.
        threads: of each library.
        calibration: batches of training samples.
        libraries: `onnxruntime`, `openvino` or both.

    Raises:
        InputError: it cannot be exported or quantised, or there are no samples.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = _export(name, network, example, Path(folder))
        try:
            small = quantize_static(path, calibration, path.with_name("int8.onnx"))
        except WorkError as error:
            raise InputError(f"{WHERE}: {error}. Use compile or eager.") from error
        runs = {library: _load(library, small, threads) for library in libraries}
    fastest = libraries[0]
    if len(libraries) > 1:
        clock = timing.clock(example.device, threads)
        spent = timing.rounds({k: _bound(run, example) for k, run in runs.items()}, clock, ROUNDS)
        fastest = min(libraries, key=lambda library: min(spent[library]))
    return Exported(f"int8:{fastest}", runs[fastest], network, example)


def _bound(run: Run, example: Tensor) -> Callable[[], object]:
    return lambda: run(example)


class _Flat(nn.Module):
    """Logits and features as a plain tuple, which is what becomes the outputs of a file."""

    def __init__(self, network: Tapped) -> None:
        super().__init__()
        self.network = network

    def forward(self, input: Tensor) -> tuple[Tensor, ...]:
        answer = self.network(input)
        return (answer.logits, *answer.features)


def _export(name: str, network: Tapped, example: Tensor, folder: Path) -> Path:
    try:
        return export_onnx(_Flat(network), example[:EXAMPLES], folder / "teacher.onnx")
    except InputError:
        raise
    except Exception as error:  # WorkError of the exporter, or whatever copying the network raises
        raise InputError(
            f"{WHERE}: {name} needs the network as ONNX. {first_line(error)}. Use compile or eager."
        ) from error


def _load(library: str, path: Path, threads: int) -> Run:
    if library == "onnxruntime":
        return OnnxModel(path, threads=threads).outputs
    from limbeck.adapters.openvino import OpenVinoModel

    return OpenVinoModel(path, threads=threads).outputs
