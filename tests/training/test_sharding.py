"""Parameters shared out among processes: really shared out, and read and learnt as if they were whole."""

import os
from typing import Any

import parts
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forking import found_by
from limbeck.errors import InputError
from limbeck.recipe import Recipe
from limbeck.taps import Tapped
from limbeck.training import sharding
from limbeck.training.runtime import Runtime

Found = list[dict[str, Any]]
PARAMETERS = sum(p.numel() for p in parts.net(0).parameters())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of two processes found."""
    if os.name != "posix":
        pytest.skip("processes are forked")
    folder = tmp_path_factory.mktemp("parts")
    return found_by(parts.__file__, folder, parts.WORLD)


def gradients_of_one() -> dict[str, Tensor]:
    network, batch = parts.net(2), parts.batch()
    F.cross_entropy(network(batch.input), batch.target).backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.slow
def test_a_teacher_in_parts_answers_to_the_bit_as_a_whole_one_taps_included(found: Found) -> None:
    for process in found:
        assert process["teacher"]["logits"]
        assert process["teacher"]["features"] == [True] * len(parts.TAPS)
        assert "no gradient passes" in process["teacher"]["differentiable"]


@pytest.mark.slow
def test_each_process_holds_its_share_and_no_more(found: Found) -> None:
    for role in ("teacher", "student"):
        held = [process[role]["numbers"] for process in found]
        assert [whole for _, whole in held] == [PARAMETERS] * 2
        assert sum(own for own, _ in held) == PARAMETERS
        assert max(own for own, _ in held) < 0.6 * PARAMETERS


@pytest.mark.slow
def test_gradients_of_parts_of_a_batch_in_two_processes_are_the_batch_s(found: Found) -> None:
    expected = gradients_of_one()
    norm = torch.stack([g.norm() for g in expected.values()]).norm()
    for process in found:
        assert process["student"]["gradients"].keys() == expected.keys()
        torch.testing.assert_close(process["student"]["gradients"], expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(process["student"]["norm"], norm, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_gradients_are_exchanged_with_the_last_part_alone(found: Found) -> None:
    for process in found:
        before, after = process["student"]["exchanged"]
        assert not any(before)
        assert all(after)


@pytest.mark.slow
def test_states_are_whole_and_can_be_loaded_back(found: Found) -> None:
    plain = parts.net(2)
    for process in found:
        torch.testing.assert_close(process["student"]["state"], dict(plain.state_dict()), atol=0, rtol=0)
        torch.testing.assert_close(process["student"]["logits"], plain(parts.batch().input))
    doubled = {name: 2 * value for name, value in plain.state_dict().items()}
    torch.testing.assert_close(found[0]["student"]["doubled"], doubled, atol=0, rtol=0)
    assert set(found[1]["student"]["doubled"].values()) == {None}, "only who asks for tensors keeps them"


@pytest.mark.slow
def test_optimisers_are_tried_and_those_that_cannot_are_refused(found: Found) -> None:
    for process in found:
        said = process["optimizers"]
        assert [n for n, error in said.items() if error is None] == list(parts.OPTIMIZERS[:5])
        assert "it stops" in said["adamp"]
        assert "other steps than on one process" in said["muon"]


@pytest.mark.slow
def test_what_several_processes_cannot_do_is_refused(found: Found) -> None:
    for process in found:
        one_device, compiled = process["refused"]
        assert 'train.device: "cpu:0" is one device' in one_device
        assert compiled.startswith("train.compile: cannot be joined with train.shard")


def test_the_units_are_the_innermost_repeated_blocks() -> None:
    class Stage(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.Sequential(parts.Block(), parts.Block())

    network = nn.Sequential(nn.Linear(4, 6), Stage(), Stage(), nn.ReLU(), nn.ReLU())
    expected = [block for stage in network[1:3] for block in stage.blocks]
    assert sharding.units(network) == expected
    assert sharding.units(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))) == []


def test_a_block_with_a_tap_inside_is_no_unit_of_its_own() -> None:
    network = parts.net(0)
    scheme = nn.ModuleDict({"student": Tapped(network, parts.TAPS)})
    assert sharding.units(scheme) == [network.blocks[0]]


def test_one_process_has_everything_whole() -> None:
    runtime = Runtime("cpu", shard=("teacher", "student"))
    network = parts.net(0)
    runtime.place(network, "student", learns=True)
    assert not runtime.shards("student")
    assert not sharding.is_sharded(network)


RECIPE: dict[str, Any] = {
    "name": "shards",
    "teacher": {"model": "py:x:y"},
    "student": {"model": "py:x:y"},
    "data": {"source": "digits"},
    "objective": {"kd": 1.0},
    "control": False,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("teacher", ("teacher",)),
        ("both", ("teacher", "student")),
        (["student"], ("student",)),
        ([], ()),
    ],
)
def test_the_key_takes_a_list_or_a_word(given: Any, expected: tuple[str, ...]) -> None:
    recipe = Recipe.from_dict({**RECIPE, "train": {"epochs": 1, "shard": given}}, None)
    assert recipe.train.shard == expected


def test_another_word_is_refused() -> None:
    with pytest.raises(InputError, match=r"train\.shard.*pupil"):
        Recipe.from_dict({**RECIPE, "train": {"epochs": 1, "shard": "pupil"}}, None)
