"""What leaves a run: files that were evaluated as they are, and nothing of an earlier export lost."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck import ship
from limbeck.data import Data, load
from limbeck.export.runtime import OnnxModel
from limbeck.inputs import InputAdapter, InputSpec

SPEC = InputSpec(mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="module")
def data() -> Data:
    return load("digits", samples=100)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )
    return nn.Sequential(InputAdapter(SPEC, channels=1), body)


def test_pixels_come_in_order_without_augmentation(data: Data) -> None:
    batches = list(ship.pixels(data.train, 70, size=32))
    assert [len(b) for b in batches] == [32, 32, 6]
    assert sum(len(b) for b in ship.pixels(data.train, 10**6)) == 100
    again = torch.cat(list(ship.pixels(data.train, 70)))
    assert torch.equal(torch.cat(batches), again)
    assert float(again.min()) >= 0
    assert float(again.max()) <= 1


def test_both_files_are_evaluated_as_they_are(data: Data, network: nn.Module, tmp_path: Path) -> None:
    network.train()
    found = ship.export(network, SPEC, ["onnx", "int8"], tmp_path, data, "name")
    assert network.training
    assert list(found) == ["onnx", "int8"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student.int8.onnx", "student.onnx"]
    images, targets = data.test.take(torch.arange(len(data.test)).numpy(), None, 0).input, data.test.targets
    assert isinstance(images, torch.Tensor)
    with torch.no_grad():
        reference = network.eval()(images).argmax(1)
    for form, entry in found.items():
        path = tmp_path / entry["file"]
        assert path.name == ship.FILES[form]
        said = OnnxModel(path)(images).argmax(1)
        assert entry["accuracy"] == pytest.approx(float((said == targets).float().mean()))
        assert entry["agreement"] == pytest.approx(float((said == reference).float().mean()))
        assert entry["bytes"] == path.stat().st_size
    assert found["onnx"]["agreement"] == 1.0
    notes = OnnxModel(tmp_path / "student.onnx").metadata
    assert json.loads(notes["labels"]) == [str(i) for i in range(10)]
    assert json.loads(notes["normalisation"])["mean"] == [0.3]
    assert notes["recipe"] == "name"

    timed = ship.latencies(
        {"student": network.eval()}, {f: tmp_path / ship.named(f) for f in ("onnx", "int8")}, images[:3]
    )
    assert list(timed) == ["student", "onnx", "int8"]
    assert all(math.isfinite(ms) and ms > 0 for ms in timed.values())


def test_int8_alone_leaves_an_earlier_onnx_file_in_its_place(
    data: Data, network: nn.Module, tmp_path: Path
) -> None:
    earlier = tmp_path / "student.onnx"
    earlier.write_bytes(b"of an earlier export")
    found = ship.export(network, SPEC, ["int8"], tmp_path, data, "name")
    assert list(found) == ["int8"]
    assert earlier.read_bytes() == b"of an earlier export"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["student.int8.onnx", "student.onnx"]


def test_nothing_asked_is_nothing_done(data: Data, network: nn.Module, tmp_path: Path) -> None:
    assert ship.export(network, SPEC, [], tmp_path / "folder", data, "name") == {}
    assert not (tmp_path / "folder").exists()
