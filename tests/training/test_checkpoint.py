"""Training states on disk: whole or not there, never a pickle."""

import errno
import hashlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.errors import InputError, WorkError
from limbeck.journal import Journal
from limbeck.recipe import Recipe
from limbeck.runfolder import RunFolder
from limbeck.training.checkpoint import States, write_atomically


def state(step: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "weights": {"a": torch.randn(3, 4, generator=generator), "b": torch.arange(5)},
        "optimizer": {0: {"momentum": torch.randn(7, generator=generator), "rate": 0.1 + 0.2}},
        "mixed": [1, None, True, "text", (2.5, torch.zeros(0))],
    }


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other and type(one) is type(other))


@pytest.fixture
def states(tmp_path: Path) -> States:
    found = States(tmp_path / "states")
    found.save(1, state(1))
    found.save(2, state(2))
    return found


def newest(states: States, name: str) -> Path:
    return states.folder / "step-000000002" / name


def test_a_state_comes_back_as_it_was(states: States) -> None:
    assert same(states.load(), state(2))


def test_the_newest_two_are_kept(states: States) -> None:
    states.save(3, state(3))
    assert [p.name for p in sorted(states.folder.iterdir())] == ["step-000000002", "step-000000003"]


def test_no_states_are_none(tmp_path: Path) -> None:
    assert States(tmp_path / "none").load() is None


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_file_cut_short_is_noticed(states: States, name: str, share: float) -> None:
    file = newest(states, name)
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    assert same(states.load(), state(1))


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_any_flipped_bit_is_noticed_or_changes_nothing(states: States, name: str) -> None:
    file = newest(states, name)
    data = file.read_bytes()
    for place in range(0, len(data), 11):
        changed = bytearray(data)
        changed[place] ^= 4
        file.write_bytes(changed)
        assert same(states.load(), state(1)), f"byte {place}"
    file.write_bytes(data)
    assert same(states.load(), state(2))


def test_a_missing_file_is_noticed(states: States) -> None:
    newest(states, "state.json").unlink()
    assert same(states.load(), state(1))


class Trap:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Trap()),
        b"{}",
        b"[1, 2]",
        b'"text"',
        b"[" * 100_000,
        json.dumps({"body": "[]", "sha256": hashlib.sha256(b"[]").hexdigest()}).encode(),
        json.dumps({"body": "{}", "sha256": hashlib.sha256(b"{}").hexdigest()}).encode(),
        json.dumps({"body": 3, "sha256": 4}).encode(),
    ],
    ids=["pickle", "empty", "list", "text", "deep", "foreign list", "foreign mapping", "numbers"],
)
def test_files_of_others_are_not_read(states: States, content: bytes) -> None:
    newest(states, "state.json").write_bytes(content)
    assert same(states.load(), state(1))


def test_pickled_tensors_are_not_read(states: States) -> None:
    data = pickle.dumps(Trap())
    newest(states, "tensors.safetensors").write_bytes(data)
    envelope = json.loads(newest(states, "state.json").read_text())
    content = json.loads(envelope["body"]) | {"tensors": hashlib.sha256(data).hexdigest()}
    body = json.dumps(content)
    forged = {"body": body, "sha256": hashlib.sha256(body.encode()).hexdigest()}
    newest(states, "state.json").write_text(json.dumps(forged))
    assert same(states.load(), state(1))


def test_all_torn_is_none(states: States) -> None:
    for file in states.folder.rglob("state.json"):
        file.write_text("")
    assert states.load() is None


def test_a_torn_state_does_not_crowd_out_whole_ones(states: States) -> None:
    states.save(9, state(9))
    (states.folder / "step-000000009" / "state.json").write_text("")
    states.save(3, state(3))
    states.save(4, state(4))
    assert [p.name for p in sorted(states.folder.iterdir())] == ["step-000000003", "step-000000004"]


def test_a_state_may_be_written_again(states: States) -> None:
    newest(states, "state.json").write_text("")
    states.save(2, state(2))
    assert same(states.load(), state(2))


def test_what_a_state_cannot_hold_is_refused(states: States) -> None:
    with pytest.raises(TypeError, match="cannot hold a Trap"):
        states.save(3, {"trap": Trap()})


def no_room(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_and_loses_nothing(states: States, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(WorkError, match=r"the disk is full.*step-000000002 is saved.*--resume"):
            states.save(3, state(3))
    assert same(states.load(), state(2))
    assert len(list(states.folder.iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match=r"cannot write .*step-000000001.*No state was saved before"):
        States(tmp_path / "file" / "states").save(1, state(1))


def test_write_atomically_leaves_the_old_file_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "result.json"
    write_atomically(file, "old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_room)
        with pytest.raises(WorkError, match="the disk is full"):
            write_atomically(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_journal_names_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(WorkError, match=r"the disk is full: cannot write .*metrics.jsonl"):
        Journal(tmp_path / "metrics.jsonl").write({"step": 1})


def test_the_journal_forgets_what_will_be_written_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    for role, step in (("teacher", 4), ("control", 2), ("control", 4), ("control", 6)):
        journal.write({"role": role, "seed": 0, "step": step})
    with journal.path.open("a") as file:
        file.write('{"role": "control", "seed": 0, "st')  # a kill in the middle of a line
    journal.rewind("control", 0, 4)
    journal.write({"role": "control", "seed": 0, "step": 6, "again": True})
    assert [(line["role"], line["step"]) for line in journal.lines()] == [
        ("teacher", 4),
        ("control", 2),
        ("control", 4),
        ("control", 6),
    ]
    assert journal.lines()[-1]["again"] is True


def test_a_folder_in_use_is_refused_and_then_free(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with (
        folder.lock(),
        pytest.raises(InputError, match="in use by another process"),
        RunFolder(tmp_path).lock(),
    ):
        pass
    with RunFolder(tmp_path).lock():
        pass


def test_a_trained_teacher_belongs_to_the_first_seed(tmp_path: Path) -> None:
    """Another first seed would go on with a teacher that was trained on another order of samples."""

    def recipe(seeds: int | list[int], train: bool = True) -> Recipe:
        network = {"model": "py:limbeck.students.small:mlp"}
        return Recipe.from_dict(
            {
                "name": "seeds",
                "seeds": seeds,
                "teacher": {**network, **({"train": {"epochs": 2}} if train else {})},
                "student": network,
                "data": {"source": "digits"},
                "objective": {"cross_entropy": 0.1, "kd": 0.9},
                "train": {"epochs": 1},
            }
        )

    folder = RunFolder(tmp_path)
    folder.claim(recipe(2), {}, 1)
    folder.check(recipe(5), resume=True)
    folder.check(recipe([0, 7]), resume=True)
    with pytest.raises(InputError, match=r"seeds: the teacher there is trained with seed 0.*first.*given 1"):
        folder.check(recipe([1, 0]), resume=True)
    folder.claim(recipe(2, train=False), {}, 1)
    folder.check(recipe([1, 0], train=False), resume=True)
