"""The drift of a backend, and the 8-bit one that has any."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from backend_networks import assert_same_state, exact, images, state, teacher
from torch import Tensor

from limbeck.backends import Backend, build, drift, exported
from limbeck.errors import InputError
from limbeck.knowledge import Knowledge

has_openvino = importlib.util.find_spec("openvino") is not None


class Off(Backend):
    """Answers the network's logits, and other ones for some samples."""

    name = "off"

    def __init__(self, answers: list[Tensor]) -> None:
        self.answers = answers

    def __call__(self, input: Tensor) -> Knowledge:
        return Knowledge(self.answers.pop(0))

    def close(self) -> None:
        pass


def test_it_is_the_divergence_of_the_softmaxes_at_the_temperature() -> None:
    network, batches = teacher(), [images(3, seed=1), images(5, seed=2)]
    ours = [exact(network, batch).logits for batch in batches]
    theirs = [logits + 0.5 * torch.randn_like(logits) for logits in ours]
    kl, same = 0.0, 0
    for a, b in zip(torch.cat(ours).tolist(), torch.cat(theirs).tolist(), strict=True):
        p, q = (torch.tensor(z, dtype=torch.float64).div(3.0).softmax(0) for z in (a, b))
        kl += sum(float(x * (x / y).log()) for x, y in zip(p, q, strict=True)) / 8
        same += a.index(max(a)) == b.index(max(b))
    found = drift(Off(theirs), network, batches, temperature=3.0)
    assert found.kl == pytest.approx(kl, rel=1e-6)
    assert (found.agreement, found.samples) == (same / 8, 8)


def test_the_network_itself_does_not_drift() -> None:
    network = teacher()
    found = drift(build("eager", network, images(2)), network, [images(4)], temperature=4.0)
    assert (found.kl, found.agreement, found.samples) == (0.0, 1.0, 4)


def test_bad_input_is_named() -> None:
    network = teacher()
    backend = build("eager", network, images(2))
    with pytest.raises(InputError, match="no sample to compare on"):
        drift(backend, network, [], temperature=4.0)
    with pytest.raises(InputError, match="temperature must be above 0; got 0"):
        drift(backend, network, [images(2)], temperature=0)


@pytest.mark.parametrize(
    "library",
    [
        "onnxruntime",
        pytest.param(
            "openvino", marks=pytest.mark.skipif(not has_openvino, reason="OpenVINO is not installed")
        ),
    ],
)
def test_eight_bits_answer_nearly_as_the_network(library: str) -> None:
    network = teacher("cifar:resnet8")
    before = state(network)
    backend = build(f"int8:{library}", network, images(8), calibration=[images(64, seed=s) for s in (5, 6)])
    assert backend.name == f"int8:{library}"
    found = drift(backend, network, [images(64, seed=7), images(33, seed=8)], temperature=4.0)
    assert 0 < found.kl < 0.01
    assert found.agreement > 0.8
    assert found.samples == 97
    other = images(2, size=20)
    assert torch.equal(backend(other).logits, exact(network, other).logits)
    backend.close()
    assert_same_state(network, before)


@pytest.mark.parametrize("fast", ["onnxruntime", "openvino"])
def test_the_faster_library_runs_the_eight_bits(fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.backends import building

    now = [0.0]

    def load(library: str, path: object, threads: int) -> object:
        def run(input: Tensor) -> list[Tensor]:
            now[0] += 1.0 if library == fast else 2.0
            return [torch.full((len(input), 5), float(library == fast))]

        return run

    find = importlib.util.find_spec
    monkeypatch.setattr(
        building.importlib.util, "find_spec", lambda name: find("json" if name == "openvino" else name)
    )
    monkeypatch.setattr(exported, "_load", load)
    monkeypatch.setattr(exported, "_export", lambda name, network, example, folder: folder / "a.onnx")
    monkeypatch.setattr(exported, "quantize_static", lambda path, calibration, to: to)
    monkeypatch.setattr(exported.timing, "clock", lambda device, threads: lambda: now[0])
    backend = build("int8", teacher(), images(2), threads=3)
    assert backend.name == f"int8:{fast}"
    assert bool((backend(images(2)).logits == 1).all())


@pytest.mark.skipif(not has_openvino, reason="OpenVINO is not installed")
def test_openvino_reports_to_nobody() -> None:
    """Left to itself its import sends a message to its maker."""
    from limbeck.adapters.openvino import OpenVinoModel

    with pytest.raises(InputError, match=r'OpenVINO cannot load this network: .*"nowhere\.onnx"'):
        OpenVinoModel(Path("nowhere.onnx"))
    assert "openvino" in sys.modules
    assert "openvino_telemetry" not in sys.modules
