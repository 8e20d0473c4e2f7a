"""Every exact backend answers what the network does, at any batch size, and leaves it as it was."""

import gc
import importlib.util

import pytest
import torch
from backend_networks import (
    Little,
    Untraceable,
    assert_close,
    assert_same_state,
    exact,
    images,
    state,
    teacher,
)
from torch import nn

from limbeck.backends import Backend, build, build_many
from limbeck.errors import InputError
from limbeck.inputs import InputAdapter, InputSpec
from limbeck.taps import Tapped

TAPS = ("layer1", "layer2.0.relu:in", "linear:in", "linear", "layer1:copy", "conv1:in")
has_openvino = importlib.util.find_spec("openvino") is not None
OPENVINO = pytest.param(
    "openvino", marks=pytest.mark.skipif(not has_openvino, reason="OpenVINO is not installed")
)
COMPILE = pytest.param("compile", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["eager", COMPILE, "onnxruntime", OPENVINO])
def test_logits_and_features_are_the_networks_own(name: str) -> None:
    network = teacher(taps=TAPS)
    network.model.layer1[0].bn1.train()  # one layer that somebody forgot
    network.model.conv1.weight.requires_grad_(True)
    before = state(network)
    backend = build(name, network, images(6))
    assert isinstance(backend, Backend)
    assert backend.name == name
    for x in (images(6, seed=1), images(6, seed=2).contiguous(), images(1), images(2), images(7)):
        assert_close(backend(x), exact(network, x))
    kept = backend(images(6, seed=1))
    wanted = exact(network, images(6, seed=1))
    backend(images(6, seed=2))
    assert_close(kept, wanted)  # an answer is not overwritten by the next
    backend.close()
    assert_same_state(network, before)


@pytest.mark.parametrize("name", [COMPILE, "onnxruntime", OPENVINO])
@pytest.mark.parametrize("model", ["py:limbeck.students.small:mlp", "timm:test_efficientnet"])
def test_other_families_of_networks(name: str, model: str) -> None:
    taps = ("blocks.1", "classifier:in") if model.startswith("timm:") else ()
    network = teacher(model, taps, size=32)
    backend = build(name, network, images(4, size=32))
    for x in (images(4, seed=1, size=32), images(3, seed=1, size=32)):
        assert_close(backend(x), exact(network, x))


@pytest.mark.parametrize("name", ["onnxruntime", OPENVINO])
def test_an_adapter_that_resizes_is_part_of_it(name: str) -> None:
    resized = InputAdapter(InputSpec(mean=(0.5,), std=(0.1,), size=24), channels=3)
    network = Tapped(Little(), ("conv",), resized)
    backend = build(name, network, images(4))
    assert_close(backend(images(5, seed=3)), exact(network, images(5, seed=3)))
    assert backend(images(5)).features[0].shape[-1] == 24
    other = images(3, size=20)  # not what the file is for
    assert torch.equal(backend(other).features[0], exact(network, other).features[0])


def test_networks_in_training_mode_answer_as_in_eval_mode() -> None:
    network = teacher().train()
    before = state(network)
    assert_close(build("eager", network, images(4))(images(4)), exact(network, images(4)))
    assert_same_state(network, before)


def test_autocast_does_not_show_in_the_answer() -> None:
    network = teacher(taps=("layer1",))
    backend = build("eager", network, images(4))
    with torch.autocast("cpu", torch.bfloat16):
        answer = backend(images(4))
    assert answer.logits.dtype == answer.features[0].dtype == torch.float32


@pytest.mark.slow
def test_what_breaks_the_graph_is_compiled_in_pieces() -> None:
    network = Tapped(Untraceable().eval(), ("bn",))
    backend = build("compile", network, images(4))
    for x in (images(4, seed=1), -images(4, seed=1), images(3)):
        assert_close(backend(x), exact(network, x))


@pytest.mark.slow
def test_nothing_is_compiled_after_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which code answers depends on the shape alone, so a resumed run computes the same."""
    from torch._dynamo.utils import counters

    network = teacher()
    backend = build("compile", network, images(4))
    graphs = counters["stats"]["unique_graphs"]
    wanted = backend(images(4, seed=1)).logits
    for x in (images(3), images(5), images(4).contiguous(), images(4, size=20)):
        backend(x)
    with torch.inference_mode():
        backend(images(4))
    with torch.autocast("cpu", torch.bfloat16):
        assert backend(images(4)).logits.dtype == torch.float32
    assert counters["stats"]["unique_graphs"] == graphs
    assert torch.equal(backend(images(4, seed=1)).logits, wanted)


@pytest.mark.slow
def test_several_networks_answer_from_one_graph() -> None:
    networks = [teacher(taps=("layer1",)), teacher("cifar:resnet14")]
    before = [state(network) for network in networks]
    together = build_many(networks, images(4))
    for x in (images(4, seed=1), images(3)):
        answers = together(x)
        assert len(answers) == 2
        for answer, network in zip(answers, networks, strict=True):
            assert_close(answer, exact(network, x))
    together.close()
    for network, was in zip(networks, before, strict=True):
        assert_same_state(network, was)


@pytest.mark.slow
def test_what_is_closed_holds_no_weights() -> None:
    """Torch would keep those that were frozen in for as long as the process runs."""

    def held() -> int:
        gc.collect()
        tensors = [found for found in gc.get_objects() if issubclass(type(found), torch.Tensor)]
        return sum(tensor.numel() for tensor in tensors)

    network = Tapped(nn.Sequential(nn.Flatten(), nn.Linear(768, 500), nn.ReLU(), nn.Linear(500, 500)).eval())
    left = []
    for _ in range(3):
        backend = build("compile", network, images(4))
        backend(images(4))
        open_ = held()
        backend.close()
        del backend
        left.append(held())
        assert open_ > left[-1] + 500_000
    assert left[2] < left[0] + 100_000  # the compiler itself keeps some after its first work


def test_no_network_is_refused() -> None:
    with pytest.raises(InputError, match=r"there is no network"):
        build_many([], images(4))


def test_a_network_is_compiled_without_freezing_where_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.backends import compiled

    tried = []

    class Failing:
        def __init__(self, module: nn.Module, example: torch.Tensor, freezing: bool) -> None:
            tried.append(freezing)
            if freezing or len(tried) > 2:
                raise KeyError("some pass\nand a long tail")
            self.call = module

    monkeypatch.setattr(compiled, "_Compilation", Failing)
    network = teacher()
    assert_close(build("compile", network, images(4))(images(4)), exact(network, images(4)))
    assert tried == [True, False]
    with pytest.raises(InputError, match=r"teacher\.backend: torch cannot compile .*KeyError: .*Use eager"):
        build("compile", network, images(4))
