"""A file that is no usable model ends in one clear message; a usable one is run as it is."""

from pathlib import Path

import onnx
import pytest
import torch
from export_network import images
from onnx import TensorProto, helper

from limbeck.errors import InputError, WorkError
from limbeck.export.runtime import OnnxModel, first_line


def write(path: Path, inputs: dict[str, int], operator: str = "Add", domain: str = "") -> Path:
    """A foreign model that applies one operator to its inputs, each [batch, 3]."""
    taken = [helper.make_tensor_value_info(name, kind, ["n", 3]) for name, kind in inputs.items()]
    given = helper.make_tensor_value_info("out", next(iter(inputs.values())), ["n", 3])
    node = helper.make_node(operator, list(inputs), ["out"], domain=domain)
    graph = helper.make_graph([node], "foreign", taken, [given])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save_model(model, str(path))
    return path


def test_a_foreign_file_runs_whatever_its_names(tmp_path: Path) -> None:
    model = OnnxModel(write(tmp_path / "a.onnx", {"pixels": TensorProto.FLOAT}, "Neg"))
    assert model.shape == (None, 3)
    assert model.input == "pixels"
    assert model.metadata == {}
    samples = torch.randn(5, 3, dtype=torch.float64)[:, [2, 0, 1]]  # neither float32 nor contiguous
    assert torch.equal(model(samples), -samples.float())


def test_unusable_files_are_named(exported: Path, tmp_path: Path) -> None:
    whole = exported.read_bytes()
    contents = {
        "empty": b"",
        "text": b"these are not the weights that you are looking for\n" * 20,
        "half": whole[: len(whole) // 2],
        "few": whole[:100],
        "noise": bytes(range(256)) * 40,
    }
    for name, content in contents.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}\.onnx") as caught:
            OnnxModel(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such file"):
        OnnxModel(tmp_path / "missing.onnx")
    with pytest.raises(InputError, match="no such file"):
        OnnxModel(tmp_path)


def test_models_of_another_form_are_named(tmp_path: Path) -> None:
    two = write(tmp_path / "two.onnx", {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT})
    with pytest.raises(InputError, match=r"one tensor\(float\); it takes a: tensor\(float\), b"):
        OnnxModel(two)
    whole = write(tmp_path / "whole.onnx", {"a": TensorProto.INT64}, "Neg")
    with pytest.raises(InputError, match=r"a: tensor\(int64\)"):
        OnnxModel(whole)
    alien = write(tmp_path / "alien.onnx", {"a": TensorProto.FLOAT}, "Teleport", "org.example")
    with pytest.raises(InputError, match="Teleport"):
        OnnxModel(alien)


def test_samples_of_another_shape_are_named(exported: Path) -> None:
    model = OnnxModel(exported)
    for wrong in (images(1, seed=1)[0], images(1, seed=1)[:, :1], torch.zeros(1, 3, 12, 11)):
        with pytest.raises(InputError, match=r"takes \[B, 3, 12, 12\]; got"):
            model(wrong)
    with pytest.raises(InputError, match="threads"):
        OnnxModel(exported, threads=0)


def test_a_model_that_fails_while_it_runs_is_the_work_failing(tmp_path: Path) -> None:
    """A reshape to [2, 3] loads, and fails for one sample."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2, 3])
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["out"])],
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(tmp_path / "a.onnx"))
    assert OnnxModel(tmp_path / "a.onnx")(torch.zeros(2, 3)).shape == (2, 3)
    with pytest.raises(WorkError, match="fails while it runs"):
        OnnxModel(tmp_path / "a.onnx")(torch.zeros(1, 3))


def test_an_error_without_text_still_has_a_name() -> None:
    assert first_line(RuntimeError()) == "RuntimeError"
    assert first_line(RuntimeError("one\ntwo")) == "one"
