"""Latency by turns, on a clock of our own: what is timed, how often, and what is restored."""

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.errors import InputError
from limbeck.evaluation import measure as module
from limbeck.evaluation.measure import cpu_copy, latency, measure, model_file_bytes, torch_runner


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still unless a test moves it."""
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def taking(clock: list[float], *milliseconds: float) -> Callable[[], object]:
    """A call that takes these times in turn, over and over."""
    turn = [0]

    def call() -> None:
        clock[0] += milliseconds[turn[0] % len(milliseconds)] / 1e3
        turn[0] += 1

    return call


def test_median_and_late_calls(clock: list[float]) -> None:
    found = latency(taking(clock, *[2.0] * 18, 9.0, 9.0), rounds=100, warmup=0)
    assert found["median_ms"] == pytest.approx(2.0)
    assert found["p95_ms"] == pytest.approx(9.0)
    assert found["rounds"] == 100


def test_candidates_do_not_disturb_each_other(clock: list[float]) -> None:
    found = measure({"a": taking(clock, 1.0), "b": taking(clock, 3.0)}, rounds=11)
    assert list(found) == ["a", "b"]
    assert found["a"]["median_ms"] == pytest.approx(1.0)
    assert found["b"]["median_ms"] == pytest.approx(3.0)


def test_candidates_take_turns_and_each_begins() -> None:
    calls: list[str] = []
    names = "abc"
    measure({name: lambda name=name: calls.append(name) for name in names}, rounds=3, warmup=1)
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab"


def test_warm_up_is_not_timed(clock: list[float]) -> None:
    found = latency(taking(clock, 100.0, 100.0, 1.0, 1.0, 1.0), rounds=3, warmup=2)
    assert found["p95_ms"] == pytest.approx(1.0)


def test_slow_candidates_stop_early_but_not_before_five_rounds(clock: list[float]) -> None:
    assert latency(taking(clock, 4000.0), rounds=50, warmup=0, seconds=10.0)["rounds"] == 5
    assert latency(taking(clock, 1000.0), rounds=50, warmup=0, seconds=9.5)["rounds"] == 10


def test_threads_and_collector_are_set_and_restored_even_after_a_failure() -> None:
    before, seen = torch.get_num_threads(), []

    def call() -> None:
        seen.append((torch.get_num_threads(), gc.isenabled()))
        if len(seen) == 2:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        latency(call, threads=before + 1, rounds=5, warmup=0)
    assert seen == [(before + 1, False)] * 2
    assert torch.get_num_threads() == before
    assert gc.isenabled()


def test_torch_runner_answers_in_eval_mode_and_leaves_the_network_alone() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.9)).double()
    example = torch.randn(4, 3)
    call = torch_runner(network, example)
    answer = call()
    assert isinstance(answer, torch.Tensor)
    torch.testing.assert_close(answer, example / (1 + 1e-5) ** 0.5)
    assert network.training
    assert network[0].running_mean.dtype == torch.float64
    assert int(network[0].num_batches_tracked) == 0


def test_copy_shares_nothing() -> None:
    network = nn.Linear(2, 2)
    copied = cpu_copy(network)
    with torch.no_grad():
        network.weight.zero_()
    assert bool(next(copied.parameters()).any())


def test_bytes_count_the_data_file_beside(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"1234")
    assert model_file_bytes(tmp_path / "a.onnx") == 4
    (tmp_path / "a.onnx.data").write_bytes(b"56")
    assert model_file_bytes(tmp_path / "a.onnx") == 6
    with pytest.raises(InputError, match="no such file"):
        model_file_bytes(tmp_path / "b.onnx")


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"rounds": 0}, {"warmup": -1}])
def test_numbers_out_of_range_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        latency(lambda: None, **wrong)
    with pytest.raises(InputError, match="nothing to time"):
        measure({})
