"""What the benchmark against other libraries relies on: all sides compute the same, and all is reported."""

import json
import sys
from collections.abc import Callable

import pytest
import table
import torch
from peers import with_limbeck, with_timm, with_torchdistill
from peers.bench_peers import compare, first_losses, off_by
from peers.plain import plain
from peers.side import AbsentError, Side, Step
from peers.sides import IMAGES, PLAIN, TINY
from peers.standins import backend, cached
from peers.task import MEAN, STD, Task, tiny_task
from torch import nn

from limbeck import Batch, Frozen, Knowledge, Tapped
from limbeck.data.samples import TensorSamples
from limbeck.students.cifar import resnet8

NAMES = tuple(str(number) for number in range(10))


@pytest.fixture(scope="module")
def task() -> Task:
    """Small residual networks, two batches of eight images."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher, student = resnet8(), resnet8()
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 10, (16,), generator=generator)
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    batches = []
    for index in torch.arange(16).split(8):
        normalised = (images[index] / 255 - mean) / std
        zeros = torch.zeros_like(index)
        keys = torch.stack([index, zeros, index], 1)
        batches.append(Batch(normalised, targets[index], index, zeros, keys=keys))
    samples = TensorSamples(images=images, targets=targets, classes=NAMES)
    return Task("small", teacher.eval(), student, batches, samples)


@pytest.mark.parametrize(
    "build",
    [
        with_limbeck.with_limbeck,
        with_timm.with_timm,
        lambda task: plain(task, channels_last=True),
        lambda task: with_limbeck.with_loader(task, compiled=False, augmented=False),
    ],
    ids=["limbeck", "timm", "channels last", "limbeck's loader"],
)
def test_the_losses_are_those_of_the_plain_loop(task: Task, build: Callable[[Task], Step]) -> None:
    expected = first_losses(plain(task))
    assert len(set(expected)) == 3  # it learns, and the batches differ
    off_by("this side", first_losses(build(task)), expected, exact=True)


def test_the_losses_agree_on_the_tiny_networks() -> None:
    task = tiny_task()
    expected = first_losses(plain(task))
    off_by("Limbeck", first_losses(with_limbeck.with_limbeck(task)), expected, exact=True)


def test_a_side_that_computes_something_else_is_refused(task: Task) -> None:
    class Half(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return task.teacher(x) / 2

    def other(task: Task) -> Step:
        return with_limbeck.with_limbeck(task, teacher=lambda: Frozen(Tapped(Half())))

    sides = [Side(PLAIN, plain), Side("other", other)]
    with pytest.raises(AssertionError, match="other finds the losses"):
        compare(task, sides, rounds=1, steps=1)
    rows = compare(task, [sides[0], Side("other", other, exact=False)], rounds=1, steps=1)
    assert rows[1]["first_loss_off_by"] > 1e-3


def test_a_later_loss_may_not_differ_either() -> None:
    with pytest.raises(AssertionError, match="side"):
        off_by("side", [1.0, 2.0, 3.1], [1.0, 2.0, 3.0], exact=True)


def test_one_loader_shuffles_and_augments_where_it_is_measured(task: Task) -> None:
    given = first_losses(with_limbeck.with_loader(task, compiled=False, augmented=True))
    assert abs(given[0] - plain(task)()) > 1e-5


def test_sides_do_not_touch_the_networks_of_the_task(task: Task) -> None:
    before = {name: value.clone() for name, value in task.student.state_dict().items()}
    first_losses(with_limbeck.with_limbeck(task))
    first_losses(plain(task))
    assert all(torch.equal(value, before[name]) for name, value in task.student.state_dict().items())


def test_what_is_not_installed_says_so(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torchdistill", "torchdistill.core", "torchdistill.core.distillation"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(AbsentError, match="make bench"):
        with_torchdistill.the_step(task)
    monkeypatch.setattr("limbeck.backends.building._installed", lambda library: False)
    with pytest.raises(AbsentError, match="needs OpenVINO"):
        with_limbeck.with_limbeck(task, teacher=backend("openvino", task))


def test_a_backend_answers_in_the_teachers_place(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def build(name: str, network: Tapped, example: torch.Tensor, calibration: object = ()) -> Callable:
        asked.append((name, len(calibration)))
        assert not network.model.training
        return lambda x: Knowledge(network(x).logits.detach())

    monkeypatch.setattr("limbeck.backends.build", build)
    expected = first_losses(plain(task))
    for name in ("openvino", "int8"):
        step = with_limbeck.with_limbeck(task, teacher=backend(name, task))
        off_by(name, first_losses(step), expected, exact=True)
    assert asked == [("openvino", 0), ("int8", 2)]  # only 8 bits are calibrated


def test_answers_read_from_disk_are_within_their_rounding(task: Task) -> None:
    found = first_losses(with_limbeck.with_limbeck(task, teacher=cached(task)))
    assert found == pytest.approx(first_losses(plain(task)), rel=1e-3)


def test_the_table_and_the_file_hold_every_side(
    task: Task, monkeypatch: pytest.MonkeyPatch, tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(task: Task) -> Step:
        raise AbsentError("it is not here")

    sides = [
        Side(PLAIN, plain),
        Side("ours", with_limbeck.with_limbeck, rival=PLAIN, goal=1000.0),
        Side("theirs", missing, goal=2.0),
    ]
    rows = compare(task, sides, rounds=2, steps=1)
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    table.publish_sides("peers", rows, "the plain loop", {"other": "1.2.3"})
    printed = capsys.readouterr().out
    for words in ("other 1.2.3", "times the plain loop", "at least 1000: MISSED", "skipped: it is not here"):
        assert words in printed
    kept = json.loads((tmp_path / "results" / "peers.json").read_text())
    assert [row["side"] for row in kept["rows"]] == [PLAIN, "ours", "theirs"]
    assert kept["rows"][0]["ratio"] == 1.0
    assert kept["rows"][1]["holds"] is False
    assert kept["processor"]


def test_in_each_round_every_side_takes_its_turns() -> None:
    calls: list[str] = []
    spent = table.turns({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=4, steps=5)
    rounds = [calls[first : first + 3] for first in range(0, len(calls), 3)]
    assert len(rounds) == 20
    assert all(sorted(taken) == ["a", "b", "c"] for taken in rounds)
    assert len({taken[0] for taken in rounds}) == 3  # nobody is always the first
    assert {name: len(seconds) for name, seconds in spent.items()} == {"a": 4, "b": 4, "c": 4}


@pytest.mark.parametrize("sides", [IMAGES, TINY], ids=["images", "tiny"])
def test_every_side_has_a_name_of_its_own_and_a_rival_that_is_there(sides: list[Side]) -> None:
    names = [side.name for side in sides]
    assert len(set(names)) == len(names)
    assert {side.rival for side in sides} <= set(names)
