"""The losses give the field's own values: every case of tests/golden, in value and gradient."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from limbeck import functional, methods
from limbeck.knowledge import Batch, Knowledge

GOLDEN = Path(__file__).parents[1] / "golden"
CASES: list[dict[str, Any]] = json.loads((GOLDEN / "index.json").read_text(encoding="utf-8"))


def read(case: dict[str, Any], dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The case's arguments (those with a gradient ask for one) and expected gradients, by argument."""
    with np.load(GOLDEN / case["file"]) as stored:
        arrays = {name: torch.from_numpy(stored[name]) for name in stored.files}
    inputs = {
        k[3:]: v.to(dtype) if v.is_floating_point() else v for k, v in arrays.items() if k.startswith("in_")
    }
    for name in case["gradients"]:
        inputs[name].requires_grad_()
    return inputs, {name: arrays[f"grad_{name}"] for name in case["gradients"]}


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected).abs().max() / expected.abs().max())


@pytest.fixture(params=CASES, ids=lambda case: Path(case["file"]).stem)
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.mark.parametrize(
    ("dtype", "loss_tolerance", "gradient_tolerance"),
    [(torch.float64, 1e-9, 1e-8), (torch.float32, 1e-4, 1e-4)],
    ids=["float64", "float32"],
)
def test_value_and_gradient(
    case: dict[str, Any], dtype: torch.dtype, loss_tolerance: float, gradient_tolerance: float
) -> None:
    inputs, expected = read(case, dtype)
    loss = getattr(functional, case["function"])(**inputs, **case["params"])
    assert loss.dtype == dtype
    assert float(loss.detach()) == pytest.approx(case["loss"], rel=loss_tolerance)
    loss.backward()
    for name, gradient in expected.items():
        assert inputs[name].grad is not None
        assert relative(inputs[name].grad, gradient) < gradient_tolerance


def test_finite_under_bfloat16_autocast(case: dict[str, Any]) -> None:
    inputs, _ = read(case, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss = getattr(functional, case["function"])(**inputs, **case["params"])
    loss.backward()
    assert loss.isfinite()
    for name in case["gradients"]:
        assert inputs[name].grad is not None
        assert inputs[name].grad.isfinite().all()


@pytest.mark.parametrize(
    "response", [c for c in CASES if "student_logits" in c["inputs"]], ids=lambda c: Path(c["file"]).stem
)
def test_the_method_gives_its_functions_value(response: dict[str, Any]) -> None:
    inputs, _ = read(response, torch.float64)
    method = methods.create(response["function"], response["params"])
    asked: Tensor | dict[str, Tensor] = torch.zeros(len(inputs["student_logits"]))
    if "mask" in inputs:
        asked = {"attention_mask": inputs["mask"]}
    batch = Batch(asked, inputs.get("target"))
    loss = method(Knowledge(inputs["student_logits"]), Knowledge(inputs["teacher_logits"]), batch)
    assert float(loss.detach()) == pytest.approx(response["loss"], rel=1e-9)


def test_every_file_is_a_case() -> None:
    assert sorted(c["file"] for c in CASES) == sorted(p.name for p in GOLDEN.glob("*.npz"))
