"""Where the arithmetic runs: one process of the machine."""

import re

import pytest
import torch
from torch import nn

from limbeck.errors import InputError, WorkError
from limbeck.knowledge import Batch
from limbeck.runfolder import FREE
from limbeck.training.runtime import Runtime


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(InputError, match=r"fp16 needs a GPU"):
        Runtime("cpu", "fp16")


def test_unknown_precision_and_device_name_the_nearest() -> None:
    with pytest.raises(InputError, match=r'unknown precision "bf61".*"bf16"'):
        Runtime("cpu", "bf61")
    with pytest.raises(InputError, match=r'unknown device "cdua".*"cuda"'):
        Runtime("cdua")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(InputError, match=r'"cuda" is not available'):
        Runtime("cuda")


def test_alone_nothing_is_wrapped_or_exchanged() -> None:
    runtime = Runtime("cpu")
    network = nn.Linear(2, 2)
    value = torch.arange(3.0)
    assert (runtime.world, runtime.rank, runtime.main) == (1, 0, True)
    assert runtime.wrap(network) is network
    assert runtime.mean(value) is value
    assert runtime.gather(value) is value
    runtime.same_buffers(network)
    runtime.wait()


def test_precision_may_change_within_a_process() -> None:
    network = nn.Linear(4, 4)
    with Runtime("cpu", "bf16").autocast():
        assert network(torch.ones(1, 4)).dtype == torch.bfloat16
    with Runtime("cpu").autocast():
        assert network(torch.ones(1, 4)).dtype == torch.float32


def test_images_and_convolutions_get_the_asked_memory_order() -> None:
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.int64))
    for wanted in (True, False):
        runtime = Runtime("cpu", channels_last=wanted)
        network = nn.Conv2d(3, 8, 3)
        runtime.place(network)
        last = torch.channels_last
        assert network.weight.is_contiguous(memory_format=last) is wanted
        placed = runtime.put(batch).input
        assert isinstance(placed, torch.Tensor)
        assert placed.is_contiguous(memory_format=last) is wanted


def test_a_network_of_volumes_keeps_its_order() -> None:
    """torch has no such order for tensors of five dimensions, and refuses."""
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Conv2d(3, 8, 3))
    Runtime("cpu", channels_last=True).place(network)
    assert all(p.is_contiguous() for p in network.parameters())


def test_each_training_starts_with_a_fresh_gradient_scale() -> None:
    runtime = Runtime("cpu", "bf16")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    runtime.accelerator.scaler, runtime._scaling = scaler, scaler.state_dict()
    scaler.scale(torch.ones(()))
    scaler.update(64.0)
    assert scaler.get_scale() == 64.0
    assert runtime.scaler() is scaler
    assert scaler.get_scale() == 1024.0


def test_nothing_is_scaled_without_need() -> None:
    assert Runtime("cpu").scaler() is None


def test_wrapped_networks_are_not_held_on_to() -> None:
    runtime = Runtime("cpu", "bf16")
    for _ in range(3):
        runtime.wrap(nn.Linear(2, 2))
    assert len(runtime.accelerator._models) == 1


def test_first_acts_and_tells_its_errors() -> None:
    runtime = Runtime("cpu")
    done: list[int] = []
    runtime.first(lambda: done.append(1))
    assert done == [1]

    def fail() -> None:
        raise WorkError("the disk is full")

    with pytest.raises(WorkError, match="the disk is full"):
        runtime.first(fail)


def test_guard_explains_a_lost_process_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime("cpu")
    lost = "[gloo/transport/tcp/pair.cc:561] Connection closed by peer"
    with pytest.raises(RuntimeError, match="Connection closed"), runtime.guard():
        raise RuntimeError(lost)
    monkeypatch.setattr(runtime, "world", 2)
    with pytest.raises(WorkError, match="another process of this run has stopped"), runtime.guard():
        raise RuntimeError(lost)
    with pytest.raises(RuntimeError, match="shapes"), runtime.guard():
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nDetails."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_names_what_to_lower(error: Exception) -> None:
    with pytest.raises(WorkError, match="out of memory on cpu") as told, Runtime("cpu").guard():
        raise error
    assert "Details" not in str(told.value)
    # What a run can go on with, apart from what would make another run of it.
    on, _, anew = str(told.value).partition("by --resume")
    named = [set(re.findall(r"(?:train|data)\.\w+", part)) for part in (on, anew)]
    assert named == [{"train.accumulate", "data.eval_batch_size"}, {"train.precision", "data.batch_size"}]
    free = {".".join(place) for place in FREE}
    assert named[0] <= free
    assert not named[1] & free
    assert "need a new run" in anew


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(WorkError, match="out of memory"), Runtime("cpu").guard():
        torch.empty(2**58)


def test_the_precision_that_suits_a_cpu() -> None:
    assert Runtime("cpu", "auto").precision == "fp32"


def test_graphs_are_for_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        InputError, match=r"train.compile: graphs are CUDA's, and this runs on cpu; give true"
    ):
        Runtime("cpu", graphs=True)
    runtime, given = Runtime("cpu"), []
    runtime.graphs = runtime.compile = True
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: given.append(how))
    runtime.wrap(nn.Linear(2, 2))
    assert given == [{"mode": "reduce-overhead"}]
    losses = {"loss": torch.ones((), requires_grad=True) * 2}
    kept = runtime.kept(losses)["loss"]
    assert not kept.requires_grad
    losses["loss"].detach().zero_()  # as the next step's replay does
    assert float(kept) == 2
