"""The 8-bit file is a third of the size, answers nearly alike, and is calibrated on what it was given."""

import logging
from pathlib import Path

import onnx
import pytest
import torch
from export_network import images
from torch import Tensor, nn

from limbeck.errors import InputError, WorkError
from limbeck.evaluation.measure import measure, model_file_bytes, onnx_runner
from limbeck.export.int8 import quantize_static
from limbeck.export.onnx import export_onnx
from limbeck.export.runtime import OnnxModel


def test_it_is_about_a_third_of_the_size(exported: Path, quantised: Path) -> None:
    assert model_file_bytes(quantised) < 0.6 * model_file_bytes(exported)  # 10 000 weights: notes weigh
    small = onnx.load(str(quantised))
    weights = [tensor for tensor in small.graph.initializer if len(tensor.dims) > 1]
    assert weights
    assert all(tensor.data_type == onnx.TensorProto.INT8 for tensor in weights)


def test_weights_keep_to_seven_bits_and_activations_are_unsigned(quantised: Path) -> None:
    """On x86 processors without VNNI larger weights overflow, and signed activations are slow there."""
    graph = onnx.load(str(quantised)).graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [
        held[node.input[0]] for node in graph.node if node.input[0] in held and "Dequant" in node.op_type
    ]
    kernels = [weight for weight in weights if weight.dtype == "int8"]
    assert len(kernels) == 3
    assert all(60 <= abs(kernel.astype(int)).max() <= 64 for kernel in kernels)
    zeros = [held[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert zeros
    assert all(zero.dtype == "uint8" for zero in zeros)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_it_answers_nearly_as_the_float_file_at_any_batch_size(
    exported: Path, quantised: Path, size: int
) -> None:
    samples = images(size, seed=20)
    wanted, got = OnnxModel(exported)(samples), OnnxModel(quantised)(samples)
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) < 0.1 * float(wanted.abs().max())
    assert not torch.equal(got, wanted)


def test_it_names_the_same_classes(exported: Path, quantised: Path) -> None:
    samples = images(300, seed=21)
    wanted, got = OnnxModel(exported)(samples), OnnxModel(quantised)(samples)
    assert len(wanted.argmax(1).unique()) > 1
    assert float((wanted.argmax(1) == got.argmax(1)).float().mean()) > 0.95


def test_metadata_are_kept_and_the_kind_added(quantised: Path) -> None:
    assert OnnxModel(quantised).metadata == {
        "labels": '["a", "b"]',
        "recipe": "tést",
        "quantization": "int8 static",
    }


def test_every_calibration_batch_counts(exported: Path, quantised: Path, tmp_path: Path) -> None:
    """Scales come from all batches: dark images alone clip the bright ones, bright ones later repair it."""
    dark, bright = 0.02 * images(32, seed=22), images(64, seed=2)
    blind = quantize_static(exported, [dark], tmp_path / "blind.onnx")
    both = quantize_static(exported, [dark, bright], tmp_path / "both.onnx")
    samples = images(100, seed=23)
    wanted = OnnxModel(exported)(samples)
    lost, kept = ((OnnxModel(file)(samples) - wanted).abs().mean() for file in (blind, both))
    assert float(lost) > 5 * float(kept)


def test_output_and_loggers_stay_clean(
    exported: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers, disabled = list(logging.root.handlers), logging.root.manager.disable
    quantize_static(exported, iter([images(8, seed=1)]), tmp_path / "a.onnx")
    assert capfd.readouterr().out == ""
    assert logging.root.handlers == handlers
    assert logging.root.manager.disable == disabled
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]


class Plain(nn.Module):
    """Nothing in it that has an 8-bit form."""

    def forward(self, x: Tensor) -> Tensor:
        return x.exp().sum((2, 3))


def test_what_cannot_be_quantised_is_an_error_that_leaves_the_earlier_file(tmp_path: Path) -> None:
    source = export_onnx(Plain(), images(2, seed=1), tmp_path / "float.onnx")
    target = tmp_path / "a.onnx"
    target.write_bytes(b"earlier")
    with pytest.raises(WorkError, match="no operator that ONNX Runtime can quantise"):
        quantize_static(source, [images(4, seed=1)], target)
    assert target.read_bytes() == b"earlier"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.onnx", "float.onnx"]


def test_a_failure_inside_the_quantiser_is_one_sentence(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime.quantization

    def fail(*args: object, **options: object) -> None:
        raise KeyError("some_tensor\nand a long tail")

    monkeypatch.setattr(onnxruntime.quantization, "quantize_static", fail)
    with pytest.raises(WorkError, match="cannot quantise") as caught:
        quantize_static(exported, [images(4, seed=1)], tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        quantize_static(tmp_path / "none.onnx", [images(1, seed=1)], tmp_path / "a.onnx")
    with pytest.raises(InputError, match="no calibration sample"):
        quantize_static(exported, [], tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"takes \[B, 3, 12, 12\]; got \[1, 3, 9, 9\]"):
        quantize_static(exported, [images(1, seed=1)[:, :, :9, :9]], tmp_path / "a.onnx")


def test_both_files_can_be_timed_side_by_side(exported: Path, quantised: Path) -> None:
    example = images(1, seed=1)
    calls = {"float": onnx_runner(exported, example), "int8": onnx_runner(quantised, example)}
    found = measure(calls, rounds=5, warmup=1)
    assert all(entry["median_ms"] > 0 and entry["rounds"] == 5 for entry in found.values())
