"""The ONNX file answers as the network does at any batch size, is one file, and keeps our paths private."""

import errno
from pathlib import Path
from typing import Any

import pytest
import torch
from export_network import Small, images
from torch import Tensor, nn

from limbeck.errors import InputError, WorkError
from limbeck.export import onnx as module
from limbeck.export.onnx import export_onnx, parity
from limbeck.export.runtime import OnnxModel


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_the_file_answers_as_the_network_at_any_batch_size(network: Small, exported: Path, size: int) -> None:
    samples = images(size, seed=4)
    plain = Small()
    plain.load_state_dict(network.state_dict())
    with torch.no_grad():
        wanted = plain.eval()(samples)
    torch.testing.assert_close(OnnxModel(exported)(samples), wanted, rtol=1e-4, atol=1e-4)


def test_it_is_one_file_with_a_free_batch_and_our_names_and_metadata(exported: Path) -> None:
    assert [file.name for file in exported.parent.iterdir()] == ["student.onnx"]
    model = OnnxModel(exported)
    assert model.shape == (None, 3, 12, 12)
    assert model.input == "input"
    assert model.metadata == {"labels": '["a", "b"]', "recipe": "tést"}


def test_the_file_holds_no_path_of_this_machine(exported: Path) -> None:
    content = exported.read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content
    assert b"stack_trace" not in content


def test_standard_output_stays_clean_and_the_network_untouched(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = Small(width=4).to(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.bn1.eval()  # a mixed mode, which must come back as it was
    export_onnx(model, images(3, seed=1), tmp_path / "a.onnx", metadata={})
    assert capfd.readouterr().out == ""
    assert model.training
    assert not model.bn1.training
    assert model.bn2.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_compiled_network_is_exported_as_the_plain_one(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))
    model.compile(backend="aot_eager")
    samples = images(4, seed=5)
    path = export_onnx(model, samples, tmp_path / "a.onnx")
    assert parity(model, path, [samples]).max_difference < 1e-5


def test_parity_is_the_largest_difference_and_the_share_of_equal_classes(
    network: Small, exported: Path
) -> None:
    same = parity(network, exported, [images(20, seed=6), images(11, seed=7)])
    assert same.max_difference < 1e-4
    assert same.agreement == 1.0
    assert same.samples == 31
    other = Small()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        other.linear.bias += torch.tensor([0.0, 0.0, 50.0, 0.0, 0.0])
    samples = images(40, seed=8)
    with torch.no_grad():
        natural = other.eval()(samples) - torch.tensor([0.0, 0.0, 50.0, 0.0, 0.0])
    apart = parity(other, exported, [samples[:25], samples[25:]])
    assert apart.max_difference == pytest.approx(50.0, abs=1e-3)
    assert apart.agreement == pytest.approx(float((natural.argmax(1) == 2).float().mean()))
    assert apart.agreement < 1.0
    with pytest.raises(InputError, match="no sample"):
        parity(network, exported, [])


def test_above_the_limit_of_one_file_the_weights_lie_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SINGLE_FILE", 1000)
    model, samples = nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), images(2, seed=9)
    export_onnx(model, samples, tmp_path / "one" / "big.onnx")
    assert sorted(file.name for file in (tmp_path / "one").iterdir()) == ["big.onnx", "big.onnx.data"]
    moved = (tmp_path / "one").rename(tmp_path / "two")
    assert parity(model, moved / "big.onnx", [samples]).max_difference < 1e-5


class Undecided(nn.Module):
    """Branches on a value, which no graph holds."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


class Noisy(nn.Module):
    """Answers differently each time, so that no file can equal it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.rand_like(x[:, :, 0, 0])


class Fixed(nn.Module):
    """Works for batches of two samples only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).view(2, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Undecided(), "cannot turn this network into ONNX"),
        (Noisy(), "logits differ from the network's"),
        (Fixed(), "the network itself fails at batch size 1"),
    ],
)
def test_a_network_that_cannot_be_exported_says_so_and_leaves_the_earlier_file(
    model: nn.Module, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "student.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(WorkError, match=message) as caught:
        export_onnx(model, images(2, seed=1), path)
    assert len(str(caught.value)) < 1000
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["student.onnx"]
    assert path.read_bytes() == b"earlier"
    assert capfd.readouterr().out == ""


def test_a_full_disk_is_named_and_leaves_the_earlier_file(
    network: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(proto: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_save", full)
    path = tmp_path / "student.onnx"
    path.write_bytes(b"earlier")
    with pytest.raises(WorkError, match=r"student\.onnx: the disk is full"):
        export_onnx(network, images(2, seed=1), path)
    assert [file.name for file in tmp_path.iterdir()] == ["student.onnx"]
    assert path.read_bytes() == b"earlier"


def test_bad_input_is_named(network: Small, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="B >= 1"):
        export_onnx(network, images(2, seed=1)[:0], tmp_path / "a.onnx")
    with pytest.raises(InputError, match='metadata "classes" must be text; got int'):
        export_onnx(network, images(2, seed=1), tmp_path / "a.onnx", metadata={"classes": 3})  # type: ignore[dict-item]


@pytest.mark.slow
def test_a_network_of_timm_is_exported_and_quantised(tmp_path: Path) -> None:
    import timm

    from limbeck.evaluation.measure import model_file_bytes
    from limbeck.export.int8 import quantize_static

    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=10, zero_init_last=False).eval()
    samples = torch.rand(8, 3, 64, 64)
    path = export_onnx(model, samples, tmp_path / "a.onnx")
    assert parity(model, path, [samples, samples[:3]]).max_difference < 1e-4
    small = quantize_static(path, [samples], tmp_path / "a.int8.onnx")
    assert model_file_bytes(small) < 0.3 * model_file_bytes(path)
    float_answers, small_answers = OnnxModel(path)(samples), OnnxModel(small)(samples)
    spread = float((float_answers - float_answers.mean(0)).std())
    assert float((float_answers - small_answers).std()) < 0.5 * spread
