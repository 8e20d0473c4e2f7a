"""`auto` takes the fastest way that answers alike, within the time that it was given."""

from collections.abc import Callable

import pytest
import torch
from backend_networks import Little, images, teacher
from torch import Tensor

from limbeck.backends import Backend, choose, choosing
from limbeck.errors import InputError, WorkError
from limbeck.knowledge import Knowledge
from limbeck.taps import Tapped

TAPS = ("layer1",)


class Machine:
    """A clock that goes on only when work is done, and backends whose work is a number."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []
        self.closed: list[str] = []


class Double(Backend):
    """Takes the next of its times, the last one for good; its answers are off by so much."""

    def __init__(
        self, machine: Machine, name: str, times: list[float], logits: float = 0.0, features: float = 0.0
    ) -> None:
        self.machine, self.name, self.times = machine, name, list(times)
        self.logits, self.features = logits, features

    def __call__(self, input: Tensor) -> Knowledge:
        self.machine.calls.append(self.name)
        self.machine.now += self.times.pop(0) if len(self.times) > 1 else self.times[0]
        feature = torch.full((len(input), 3), 100.0)
        return Knowledge(input.flatten(1)[:, :4] + self.logits, (feature * (1 + self.features),))

    def close(self) -> None:
        self.machine.closed.append(self.name)


Make = Callable[..., Machine]


@pytest.fixture
def prepare(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Puts doubles in the place of the backends; an exception stands for one that cannot be built."""

    def put(**given: dict[str, object] | Exception) -> Machine:
        machine = Machine()
        monkeypatch.setattr(choosing.timing, "clock", lambda device, threads: lambda: machine.now)
        monkeypatch.setattr(choosing, "offered", lambda network, device: tuple(given))

        def build(name: str, *args: object, **options: object) -> Double:
            made = given[name]
            if isinstance(made, Exception):
                raise made
            return Double(machine, name, **made)  # type: ignore[arg-type]

        monkeypatch.setattr(choosing, "build", build)
        return machine

    return put


def test_the_fastest_is_taken_and_the_others_closed(prepare: Make) -> None:
    machine = prepare(
        eager={"times": [1.0]},
        compile={"times": [0.8]},
        onnxruntime={"times": [0.5]},
        openvino={"times": [0.6]},
    )
    said: list[str] = []
    choice = choose(teacher(taps=TAPS), images(4), threads=1, tell=said.append)
    assert choice.name == choice.backend.name == "onnxruntime"
    assert choice.ratios == pytest.approx({"eager": 1.0, "compile": 0.8, "onnxruntime": 0.5, "openvino": 0.6})
    assert choice.refused == {}
    assert sorted(machine.closed) == ["compile", "eager", "openvino"]
    assert said[-1] == "onnxruntime: eager 1.00, compile 0.80, onnxruntime 0.50, openvino 0.60"


@pytest.mark.parametrize(("time", "taken"), [(0.98, "eager"), (0.96, "compile"), (1.5, "eager")])
def test_a_gain_below_three_percent_is_not_worth_it(prepare: Make, time: float, taken: str) -> None:
    prepare(eager={"times": [1.0]}, compile={"times": [time]})
    choice = choose(teacher(taps=TAPS), images(4), threads=1)
    assert choice.name == choice.backend.name == taken
    assert choice.ratios["compile"] == pytest.approx(time)


def test_what_answers_otherwise_is_refused(prepare: Make) -> None:
    machine = prepare(
        eager={"times": [1.0]},
        compile={"times": [0.1], "logits": 0.002},
        onnxruntime={"times": [0.1], "features": 0.002},
        openvino={"times": [0.9], "logits": 0.0009, "features": -0.0009},
    )
    choice = choose(teacher(taps=TAPS), images(4), threads=1)
    assert choice.name == "openvino"
    assert list(choice.ratios) == ["eager", "openvino"]
    assert machine.closed == ["compile", "onnxruntime", "eager"]
    assert choice.refused == {
        "compile": "its logits differ from eager's by 0.002; allowed is 0.001",
        "onnxruntime": 'its features of "layer1" differ from eager\'s by 0.2; allowed is 0.1',
    }


def test_answers_that_are_no_numbers_are_refused(prepare: Make) -> None:
    prepare(eager={"times": [1.0]}, compile={"times": [0.1], "logits": float("nan")})
    choice = choose(teacher(taps=TAPS), images(4), threads=1)
    assert choice.name == "eager"
    assert "differ from eager's by nan" in choice.refused["compile"]


def test_under_autocast_answers_may_differ_by_its_rounding(prepare: Make) -> None:
    prepare(eager={"times": [1.0]}, compile={"times": [0.5], "logits": 0.02})
    with torch.autocast("cpu", torch.bfloat16):
        assert choose(teacher(taps=TAPS), images(4), threads=1).name == "compile"
    assert choose(teacher(taps=TAPS), images(4), threads=1).name == "eager"


def test_what_fails_is_refused_with_its_reason(prepare: Make) -> None:
    prepare(
        eager={"times": [1.0]},
        compile=InputError("no compiler"),
        onnxruntime=WorkError("a file\nand more"),
        openvino={"times": [0.5]},
    )
    said: list[str] = []
    choice = choose(teacher(taps=TAPS), images(4), threads=1, tell=said.append)
    assert choice.name == "openvino"
    assert choice.refused == {"compile": "no compiler", "onnxruntime": "WorkError: a file"}
    assert "compile is not taken: no compiler" in said


def test_one_slow_round_does_not_decide(prepare: Make) -> None:
    prepare(eager={"times": [1.0]}, compile={"times": [9.0, 0.5, 9.0, 0.5]})
    choice = choose(teacher(taps=TAPS), images(4), threads=1, seconds=100)
    assert choice.name == "compile"
    assert choice.ratios["compile"] == pytest.approx(0.5)


def test_it_ends_in_time(prepare: Make) -> None:
    machine = prepare(eager={"times": [1.0]}, compile={"times": [0.5]})
    choose(teacher(taps=TAPS), images(4), threads=1, seconds=7.0)
    assert 4 < machine.now <= 7.0


def test_where_there_is_no_time_the_first_answers_decide(prepare: Make) -> None:
    machine = prepare(eager={"times": [30.0]}, compile={"times": [15.0]})
    choice = choose(teacher(taps=TAPS), images(4), threads=1, seconds=20.0)
    assert (choice.name, machine.calls) == ("compile", ["eager", "compile"])


def test_who_begins_changes_from_round_to_round(prepare: Make) -> None:
    machine = prepare(eager={"times": [1.0]}, compile={"times": [1.0]})
    choose(teacher(taps=TAPS), images(4), threads=1, seconds=8.5)
    first, *rounds = [machine.calls[i : i + 2] for i in range(0, len(machine.calls), 2)]
    ours, theirs = ["eager", "compile"], ["compile", "eager"]
    assert (first, rounds) == (ours, [ours, theirs, ours])


def test_real_ones_are_built_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "offered", lambda network, device: ("eager", "onnxruntime"))
    network = Tapped(Little(), ("conv",))
    choice = choose(network, images(8), threads=1, seconds=0.2)
    assert set(choice.ratios) == {"eager", "onnxruntime"}
    assert choice.refused == {}
    assert choice.ratios["eager"] == 1.0
    assert choice.backend(images(3)).logits.shape == (3, 5)
