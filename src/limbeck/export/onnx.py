"""The student as one ONNX file: any batch size, checked by running it.

The file takes what the network that is handed in takes; a run hands in the student behind its input
adapter, so the file takes pixels in [0, 1] and needs no other preparation. torch's exporter records where
each operator came from, with the paths of the machine's files; that is taken out before saving.
"""

import io
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import InputError, WorkError
from limbeck.evaluation.measure import cpu_copy
from limbeck.export.runtime import OnnxModel, first_line
from limbeck.files import atomic_folder, install

__all__ = ["INPUT", "OUTPUT", "Parity", "export_onnx", "parity"]

INPUT, OUTPUT = "input", "logits"
OPSET = 18
"""The version that torch's exporter writes natively; every ONNX Runtime of the last years reads it."""
SINGLE_FILE = 2_000_000_000
"""Bytes of weights above which they go into a second file: protobuf ends at 2 GiB."""
BATCHES = (1, 2, 7)
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Parity:
    """How closely a file answers as the network does.

    Attributes:
        max_difference: largest absolute difference of a logit.
        agreement: share of samples for which both name the same class.
        samples: number of samples compared.
    """

    max_difference: float
    agreement: float
    samples: int


def export_onnx(
    model: nn.Module, example: Tensor, path: Path, *, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write the network, as it is in eval mode, as one ONNX file with a free batch size.

    Args:
        model: answers [B, ...] with logits [B, C], or with a tuple of these and further tensors, which
            become further outputs of the file; stays untouched (a copy on the CPU is exported).
        example: at least one sample, [B, ...]; real ones make the check below worth more.
        path: where to write; an earlier file is replaced only by one that passed the checks.
        metadata: texts to put into the file (labels, normalisation, version, recipe).

    Returns:
        `path`. Weights above 2 GB lie beside it in `<name>.data`.

    Raises:
        InputError: no example, or metadata that is not text.
        WorkError: the network cannot be exported, the file answers otherwise than the network does (at
            batch sizes 1, 2 and 7), or it cannot be written.
    """
    if example.ndim < 2 or len(example) == 0:
        raise InputError(f"export: the example must be [B, ...] with B >= 1; got {list(example.shape)}")
    metadata = dict(metadata or {})
    for key, text in metadata.items():
        if not isinstance(text, str):
            raise InputError(f'export: metadata "{key}" must be text; got {type(text).__name__}')
    plain, example = cpu_copy(model), example.detach().cpu().float()
    proto = _translate(plain, example)
    for part in (proto.graph, *proto.functions):
        _strip(part)
    proto.producer_name = "limbeck"
    for key, text in metadata.items():
        proto.metadata_props.add(key=key, value=text)
    with atomic_folder(path) as folder:
        written = folder / path.name
        _save(proto, written)
        _check(plain, example, written)
        for file in sorted(folder.iterdir(), key=lambda file: file == written):
            install(file, path.with_name(file.name))  # the data first, the model that names them last
    return path


def parity(model: nn.Module, path: Path, samples: Iterable[Tensor], *, threads: int = 1) -> Parity:
    """Compare a file with the network that it was made from, on real samples, batch by batch.

    Raises:
        InputError: there are no samples, or the file is no usable ONNX model.
    """
    plain, shipped = cpu_copy(model), OnnxModel(path, threads=threads)
    largest, same, count = 0.0, 0, 0
    with torch.inference_mode():
        for batch in samples:
            ours, theirs = plain(batch.cpu().float()), shipped(batch)
            # torch's maximum keeps NaN, Python's may lose it.
            largest = float(torch.tensor([largest, float((ours - theirs).abs().max())]).max())
            same += int((ours.argmax(1) == theirs.argmax(1)).sum())
            count += len(batch)
    if count == 0:
        raise InputError("parity: there is no sample to compare on")
    return Parity(largest, same / count, count)


def _translate(model: nn.Module, example: Tensor) -> Any:
    """The network as an `onnx.ModelProto`."""
    # torch treats sizes 0 and 1 as constants, so the batch dimension is free only when traced with 2.
    example = example.repeat(2, *[1] * (example.ndim - 1))[: max(2, len(example))]
    try:
        with redirect_stdout(io.StringIO()), torch.no_grad():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
    except Exception as error:  # the exporter runs the network: whatever that raises ends up here
        cause = error.__cause__ or error
        raise WorkError(
            f"export: torch cannot turn this network into ONNX: {type(cause).__name__}: {first_line(cause)}"
        ) from error
    assert program is not None  # torch returns None only for its older exporter
    return program.model_proto


def _strip(part: Any) -> None:
    """Take torch's notes about its source, which hold stack traces, out of a graph and the graphs in it."""
    del part.metadata_props[:]
    lists = ("input", "output", "value_info", "initializer", "node")
    for entry in (entry for name in lists for entry in getattr(part, name, ())):
        if not isinstance(entry, str):  # a function names its inputs by text alone
            del entry.metadata_props[:]
            entry.doc_string = ""
    for attribute in (attribute for node in part.node for attribute in node.attribute):
        for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            _strip(inner)


def _save(proto: Any, path: Path) -> None:
    import onnx

    size = sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    if size > SINGLE_FILE:
        onnx.save_model(
            proto, str(path), save_as_external_data=True, location=path.name + ".data", size_threshold=1024
        )
    else:
        onnx.save_model(proto, str(path))


def _check(model: nn.Module, example: Tensor, path: Path) -> None:
    """Refuse a file that breaks ONNX's rules, or answers otherwise than the network, at any batch size."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # checker and shape inference raise types of their own
        raise WorkError(f"export: the file breaks ONNX's rules: {first_line(error)}") from error
    shipped = OnnxModel(path)
    for size in BATCHES:
        samples = example.repeat(-(-size // len(example)), *[1] * (example.ndim - 1))[:size]
        wanted, got = _ask(model, samples), shipped.outputs(samples)
        if len(wanted) != len(got):
            raise WorkError(f"export: the file has {len(got)} outputs, the network {len(wanted)}")
        for place, (ours, theirs) in enumerate(zip(wanted, got, strict=True)):
            _compare(f"features of tap {place}" if place else "logits", ours, theirs)


def _ask(model: nn.Module, samples: Tensor) -> tuple[Tensor, ...]:
    try:
        with torch.inference_mode():
            answer = model(samples)
    except Exception as error:  # the user's own code
        raise WorkError(
            f"export: the network itself fails at batch size {len(samples)}: {first_line(error)}"
        ) from error
    answers = answer if isinstance(answer, tuple) else (answer,)
    assert all(isinstance(value, Tensor) for value in answers)  # nothing else can be an output
    return answers


def _compare(what: str, wanted: Tensor, got: Tensor) -> None:
    """Refuse answers of another shape, or further apart than float32 explains; NaN is never close."""
    if got.shape != wanted.shape:
        raise WorkError(
            f"export: the file's {what} are {list(got.shape)}, the network's {list(wanted.shape)}"
        )
    difference, allowed = float((got - wanted).abs().max()), TOLERANCE * max(1.0, float(wanted.abs().max()))
    if not difference <= allowed:
        raise WorkError(
            f"export: at batch size {len(wanted)} the file's {what} differ from the network's by "
            f"{difference:.3g}; allowed is {allowed:.3g}"
        )
