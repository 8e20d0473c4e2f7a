"""The folder of a cache: what is damaged, swapped or foreign is refused, and nothing done is lost."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.cache import Dense, Layout, Store, differences
from limbeck.cache.store import MANIFEST
from limbeck.errors import InputError
from limbeck.knowledge import Knowledge

ROWS, EACH, PASSES = 10, 4, 2


def made(folder: Path, seed: int = 0, passes: int = PASSES) -> Store:
    """A finished cache of random answers."""
    folder.mkdir()
    store = Store(folder, {"plan": {"seed": seed}}, Layout(3, Dense(32)), ROWS, EACH)
    fill(store, passes, seed)
    return store


def fill(store: Store, passes: int, seed: int) -> None:
    for turn in range(passes):
        answers = torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(100 * seed + turn))
        for shard in store.shards(turn):
            part = Knowledge(answers[shard.first : shard.last])
            store.write(shard, store.layout.encode(part, np.zeros(shard.last - shard.first, np.uint64)))
    store.finish(passes)


def test_rows_are_read_by_pass_and_place(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    store = Store.open(tmp_path / "cache")
    assert (store.passes, store.made_from, store.rows) == (PASSES, {"plan": {"seed": 0}}, ROWS)
    wanted = [torch.randn(ROWS, 3, generator=torch.Generator().manual_seed(turn)) for turn in range(PASSES)]
    for turn, place in [([0] * 3, [1, 0, 3]), ([1] * 4, [9, 0, 5, 4]), ([0, 1, 1, 0], [9, 9, 2, 3])]:
        found = store.layout.decode(store.read(np.array(turn), np.array(place))).logits
        assert torch.equal(found, torch.stack([wanted[t][p] for t, p in zip(turn, place, strict=True)]))


def shard(folder: Path, number: int) -> Path:
    return sorted(folder.glob("pass-*.npy"))[number]


def flip(path: Path) -> None:
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


@pytest.mark.parametrize("damage", [flip, cut, lambda path: path.write_bytes(b"")])
def test_a_torn_shard_is_refused_by_name(tmp_path: Path, damage: object) -> None:
    made(tmp_path / "cache")
    broken = shard(tmp_path / "cache", 1)
    damage(broken)
    with pytest.raises(InputError, match=broken.name):
        Store.open(tmp_path / "cache")


def test_swapped_shards_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    one, other = shard(tmp_path / "cache", 0), shard(tmp_path / "cache", 1)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    with pytest.raises(InputError, match="torn, swapped, or of another cache"):
        Store.open(tmp_path / "cache")


def test_a_shard_of_another_cache_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    made(tmp_path / "other", seed=1)
    shard(tmp_path / "cache", 2).write_bytes(shard(tmp_path / "other", 2).read_bytes())
    with pytest.raises(InputError, match="torn, swapped, or of another cache"):
        Store.open(tmp_path / "cache")


def test_damage_beyond_what_is_looked_at_first_is_found_when_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "cache")
    flip(shard(tmp_path / "cache", 5))
    monkeypatch.setattr("limbeck.cache.store.AT_ONCE", 0)
    store = Store.open(tmp_path / "cache")
    store.read(np.array([0]), np.array([9]))
    with pytest.raises(InputError, match="torn, swapped"):
        store.read(np.array([1]), np.array([9]))


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    gone = shard(tmp_path / "cache", 3)
    gone.unlink()
    with pytest.raises(InputError, match=f"{gone.name} is missing"):
        Store.open(tmp_path / "cache")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1, "made_from"'])
def test_a_manifest_that_is_torn_is_refused(tmp_path: Path, text: str) -> None:
    made(tmp_path / "cache")
    (tmp_path / "cache" / MANIFEST).write_text(text)
    with pytest.raises(InputError, match="cannot be read"):
        Store.open(tmp_path / "cache")


def test_another_format_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    file = tmp_path / "cache" / MANIFEST
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(InputError, match="format 99"):
        Store.open(tmp_path / "cache")


def test_a_folder_without_a_cache_is_told_from_the_beginning_of_one(tmp_path: Path) -> None:
    made(tmp_path / "cache")
    (tmp_path / "cache" / MANIFEST).unlink()
    with pytest.raises(InputError, match="only the beginning of one"):
        Store.open(tmp_path / "cache")
    with pytest.raises(InputError, match="holds no cache;"):
        Store.open(tmp_path)


def test_passes_can_be_added(tmp_path: Path) -> None:
    before = made(tmp_path / "cache")
    kept = {path.name for path in before.folder.glob("pass-*")}
    store = Store.open(tmp_path / "cache")
    fill(store, 3, 0)
    assert Store.open(tmp_path / "cache").passes == 3
    assert kept < {path.name for path in before.folder.glob("pass-*")}


def test_what_is_half_written_or_damaged_is_cleared_away_and_the_rest_kept(tmp_path: Path) -> None:
    store = made(tmp_path / "cache")
    (store.folder / ".pass-00000-part-000-abc.npy.part").write_bytes(b"half")
    flip(shard(store.folder, 2))
    store.begin()
    assert len(store.present()) == 5
    assert not list(store.folder.glob(".pass-*"))


def test_a_pass_that_is_not_complete_cannot_be_finished(tmp_path: Path) -> None:
    store = made(tmp_path / "cache")
    with pytest.raises(InputError, match="lacks pass-00002-part-000"):
        store.finish(3)


def test_differences_name_the_place() -> None:
    one = {"teacher": {"weights": "a", "taps": []}, "plan": {"seed": 0}}
    other = {"teacher": {"weights": "b", "taps": []}, "plan": {"seed": 0, "mix": {"mixup": 0.2}}}
    assert differences(one, one) == []
    assert differences(one, other) == [
        "plan.mix: nothing there, {'mixup': 0.2} here",
        "teacher.weights: a there, b here",
    ]
