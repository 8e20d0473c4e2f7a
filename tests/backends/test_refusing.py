"""What cannot work says so before any work is done, and names what does."""

import importlib.util

import pytest
import torch
from backend_networks import images, teacher
from torch import Tensor, nn

from limbeck.backends import build, building, offered
from limbeck.errors import InputError
from limbeck.taps import Tapped


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        building.importlib.util, "find_spec", lambda name: None if name in libraries else find(name)
    )


def show(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        building.importlib.util, "find_spec", lambda name: find("json") if name == library else find(name)
    )


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r'teacher\.backend: unknown backend "compiled".*Did you mean "compile"'
    ):
        build("compiled", teacher(), images(2))


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "openvino")
    with pytest.raises(InputError, match=r"pip install 'limbeck\[openvino\]'; or use onnxruntime\."):
        build("openvino", teacher(), images(2))
    with pytest.raises(InputError, match=r"pip install 'limbeck\[openvino\]'; or use int8:onnxruntime\."):
        build("int8:openvino", teacher(), images(2))
    assert offered(teacher(), "cpu") == ("eager", "compile", "onnxruntime")


def test_an_installed_library_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, "openvino")
    assert offered(teacher(taps=("layer1",)), "cpu") == ("eager", "compile", "onnxruntime", "openvino")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "int8"])
def test_other_libraries_keep_to_the_cpu(name: str) -> None:
    with pytest.raises(
        InputError, match=rf"{name} runs on the CPU alone, .* is on meta; use eager or compile"
    ):
        build(name, teacher(), images(2).to("meta"))


def test_on_gpus_torch_alone_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    show(monkeypatch, "triton")
    assert offered(teacher(), torch.device("cuda", 0)) == ("eager", "compile")
    hide(monkeypatch, "triton")
    assert offered(teacher(), "cuda") == ("eager",)
    assert offered(teacher(), "mps") == ("eager", "compile")


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building.shutil, "which", lambda name: "there" if name == "my-own" else None)
    monkeypatch.delenv("CXX", raising=False)
    assert "compile" not in offered(teacher(), "cpu")
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler .*use eager or onnxruntime"):
        build("compile", teacher(), images(2))
    monkeypatch.setenv("CXX", "my-own")
    assert "compile" in offered(teacher(), "cpu")


def test_int8_gives_no_features() -> None:
    with pytest.raises(InputError, match=r'int8 gives logits alone, and "layer1", "layer2:in" .*are read'):
        build("int8", teacher(taps=("layer1", "layer2:in")), images(2), calibration=[images(2)])


def test_int8_wants_samples() -> None:
    with pytest.raises(InputError, match=r"no calibration sample"):
        build("int8:onnxruntime", teacher(), images(2))


class Unexportable(nn.Module):
    """Its answer depends on a value in a way that no exporter can record."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, : 2 if float(x.sum()) > 0 else 3]


@pytest.mark.parametrize("name", ["onnxruntime", "int8:onnxruntime"])
def test_what_cannot_be_exported_says_what_to_do(name: str) -> None:
    network = Tapped(Unexportable())
    with pytest.raises(
        InputError, match=rf"{name} needs the network as ONNX\. .*Use compile or eager\."
    ) as told:
        build(name, network, images(2), calibration=[images(2)])
    assert "\n" not in str(told.value)
