"""A small network with real batch statistics, exported and quantised once for all tests here."""

from pathlib import Path

import pytest
import torch
from export_network import Small, images

from limbeck.export.int8 import quantize_static
from limbeck.export.onnx import export_onnx


@pytest.fixture(scope="session")
def network() -> Small:
    """Left in training mode, with batch statistics that are not the initial ones."""
    torch.manual_seed(0)
    model = Small()
    with torch.no_grad():
        for step in range(30):
            model(images(64, seed=100 + step))
        model.linear.weight.mul_(10)
    return model


@pytest.fixture(scope="session")
def exported(network: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "student.onnx"
    return export_onnx(network, images(1, seed=1), path, metadata={"labels": '["a", "b"]', "recipe": "tést"})


@pytest.fixture(scope="session")
def quantised(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "student.int8.onnx"
    return quantize_static(exported, [images(64, seed=2), images(30, seed=3)], path)
