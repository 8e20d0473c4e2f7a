"""Weights: found, read without running code, loaded strictly, saved whole or not at all."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck import locating, weights
from limbeck.errors import InputError, WorkError


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class _Runs:
    """Pickles to something that makes a file when it is opened the ordinary way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_saved_weights_load_to_the_bit(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "student.safetensors"
    weights.save(_net(0), file, {"classes": "2"})
    other = _net(1)
    weights.load(other, file, where="student.weights")
    assert _same(other.state_dict(), _net(0).state_dict())
    assert weights.metadata(file)["classes"] == "2"
    assert [f.name for f in file.parent.iterdir()] == ["student.safetensors"]


def test_the_plain_class_loads_the_file_with_torch_alone(tmp_path: Path) -> None:
    weights.save(_net(0).to(memory_format=torch.channels_last), tmp_path / "a.safetensors")
    _net(1).load_state_dict(load_file(tmp_path / "a.safetensors"), strict=True)


def test_shared_tensors_are_written_under_each_of_their_names(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    weights.save(net, tmp_path / "a.safetensors")
    state = load_file(tmp_path / "a.safetensors")
    assert torch.equal(state["0.weight"], state["1.weight"])
    assert len(state) == 4


def test_saving_is_the_same_to_the_byte_every_time(tmp_path: Path) -> None:
    notes = {name: f'"{name}" é \n\t\\' for name in "gfedcba"}
    for number in range(5):
        weights.save(_net(), tmp_path / str(number), notes)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    assert weights.metadata(tmp_path / "0") == {"format": "pt", **notes}
    assert _same(weights.read(tmp_path / "0"), dict(_net().state_dict()))


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.safetensors"
    weights.save(_net(0), file)
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkError, match="the disk is full"):
        weights.save(_net(1), file)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkError, match="cannot write"):
        weights.save(_net(), tmp_path / "file" / "a.safetensors")


@pytest.mark.parametrize(
    "wrapper", ["state_dict", "model_state_dict", "model", "net", "ema_net", "ema", None]
)
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", ""])
def test_wrapped_and_prefixed_checkpoints_load(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = {prefix + k: v for k, v in _net(0).state_dict().items()}
    torch.save({wrapper: state, "epoch": 3, "best_prec1": 0.5} if wrapper else state, tmp_path / "a.pth")
    assert _same(weights.read(tmp_path / "a.pth"), dict(_net(0).state_dict()))
    net = _net(1)
    weights.load(net, tmp_path / "a.pth", where="teacher.weights")
    assert _same(net.state_dict(), _net(0).state_dict())


def test_nested_wrappers_are_opened_and_the_weights_preferred_to_their_average(tmp_path: Path) -> None:
    inner = {"state_dict": dict(_net(0).state_dict())}
    torch.save({"ema": dict(_net(1).state_dict()), "model": inner}, tmp_path / "a.pth")
    assert _same(weights.read(tmp_path / "a.pth"), dict(_net(0).state_dict()))


def test_supergradients_average_is_preferred_to_its_network(tmp_path: Path) -> None:
    both = {"net": dict(_net(0).state_dict()), "ema_net": dict(_net(1).state_dict())}
    torch.save(both, tmp_path / "ckpt_latest.pth")
    assert _same(weights.read(tmp_path / "ckpt_latest.pth"), dict(_net(1).state_dict()))


def test_a_network_whose_own_names_begin_with_model_loads_its_own_file(tmp_path: Path) -> None:
    class Wrapping(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.model = _net(seed)

    for prefix in ("", "module."):
        file = tmp_path / f"{prefix}a.safetensors"
        save_file({prefix + k: v for k, v in Wrapping(0).state_dict().items()}, file)
        net = Wrapping(1)
        weights.load(net, file, where="teacher.weights")
        assert _same(net.state_dict(), Wrapping(0).state_dict())


def test_the_old_format_of_torch_and_a_missing_batch_counter_load(tmp_path: Path) -> None:
    state = {f"module.{k}": v for k, v in _net(0).state_dict().items() if "num_batches" not in k}
    torch.save({"state_dict": state}, tmp_path / "a.th", _use_new_zipfile_serialization=False)
    net = _net(1)
    weights.load(net, tmp_path / "a.th", where="teacher.weights")
    assert torch.equal(net.state_dict()["0.weight"], _net(0).state_dict()["0.weight"])


@pytest.mark.parametrize("modern", [True, False])
def test_a_pickled_payload_is_refused_and_not_run(tmp_path: Path, modern: bool) -> None:
    mark = tmp_path / "ran"
    torch.save(
        {"state_dict": _net().state_dict(), "extra": _Runs(mark)},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=modern,
    )
    with pytest.raises(InputError, match=r"a\.pth: refused: opening it would run code.*mkdir"):
        weights.read(tmp_path / "a.pth")
    assert not mark.exists()


@pytest.mark.skipif(os.name != "posix", reason="there is no umask")
@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_weights_can_be_read_by_whom_the_umask_says(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / ".a.safetensors.part").touch(0o600)  # of a process that was killed
        weights.save(_net(), tmp_path / "a.safetensors")
        (tmp_path / "plain").touch()
    finally:
        os.umask(before)
    given = [(tmp_path / name).stat().st_mode for name in ("a.safetensors", "plain")]
    assert given[0] == given[1]


def test_a_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(_Runs(mark)))
    with pytest.raises(InputError, match=r"a\.pkl"):
        weights.read(tmp_path / "a.pkl")
    assert not mark.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(_net(), tmp_path / "a.pth")
    with pytest.raises(InputError, match="save its state_dict as safetensors"):
        weights.read(tmp_path / "a.pth")


@pytest.mark.parametrize("kind", ["safetensors", "torch", "legacy"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, kind: str, share: float) -> None:
    file = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    big = nn.Linear(50, 50)
    if kind == "safetensors":
        weights.save(big, file)
    else:
        torch.save(big.state_dict(), file, _use_new_zipfile_serialization=kind == "torch")
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"not a complete|is empty"):
        weights.read(file)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"hello, this is no checkpoint"), ("b.pth", os.urandom(500))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=name):
            weights.read(tmp_path / name)
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "c.pth")
    with pytest.raises(InputError, match=r"holds no tensors by name\. Keys: epoch, lr"):
        weights.read(tmp_path / "c.pth")
    torch.save([1, 2], tmp_path / "d.pth")
    with pytest.raises(InputError, match="holds list"):
        weights.read(tmp_path / "d.pth")
    with pytest.raises(InputError, match="no such file"):
        weights.read(tmp_path / "e.pth")


def test_safetensors_are_known_by_their_content_not_their_ending(tmp_path: Path) -> None:
    save_file(_net().state_dict(), tmp_path / "model.bin")
    assert _same(weights.read(tmp_path / "model.bin"), dict(_net().state_dict()))


def test_weights_that_do_not_fit_name_keys_and_shapes_and_change_nothing(tmp_path: Path) -> None:
    state = _net(0).state_dict()
    state["3.weight"] = torch.zeros(7, 4)
    state["fc.weight"] = state.pop("0.weight")
    save_file(state, tmp_path / "a.safetensors")
    net = _net(1)
    with pytest.raises(InputError) as caught:
        weights.load(net, tmp_path / "a.safetensors", where="student.weights")
    message = str(caught.value)
    assert message.startswith("student.weights: ")
    assert "1 missing in the file: 0.weight" in message
    assert "1 unexpected in the file: fc.weight" in message
    assert "3.weight (file [7, 4], model [2, 4])" in message
    assert _same(net.state_dict(), _net(1).state_dict())


def test_a_long_list_of_keys_is_cut_and_counted(tmp_path: Path) -> None:
    save_file({f"other{i}": torch.zeros(1) for i in range(50)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"50 unexpected in the file: .*, …") as caught:
        weights.load(_net(), tmp_path / "a.safetensors", where="student.weights")
    assert len(str(caught.value)) < 600


def test_find_looks_beside_the_recipe_then_in_the_data_then_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {name: tmp_path / name for name in ("recipe", "data/weights", "cache/weights")}
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    for folder in reversed(places.values()):
        folder.mkdir(parents=True)
        (folder / "w.th").touch()
        assert locating.find("w.th", beside=places["recipe"], where="teacher.weights") == folder / "w.th"
    absolute = str(places["recipe"] / "w.th")
    assert locating.find(absolute, beside=None, where="teacher.weights") == Path(absolute)
    monkeypatch.chdir(places["recipe"])
    assert locating.find("w.th", beside=None, where="--weights").samefile(absolute)


def test_a_missing_file_lists_the_places_and_the_nearest_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet56-4bfd9763.th").touch()
    with pytest.raises(InputError) as caught:
        locating.find("resnet56-4bfd9762.th", beside=tmp_path / "recipe", where="teacher.weights")
    message = str(caught.value)
    assert message.startswith("teacher.weights: ")
    assert str(tmp_path / "recipe" / "resnet56-4bfd9762.th") in message
    assert 'Did you mean "resnet56-4bfd9763.th"?' in message
    monkeypatch.delenv("LIMBECK_DATA")
    with pytest.raises(InputError, match="LIMBECK_DATA is not set"):
        locating.find("w.th", beside=tmp_path, where="teacher.weights")
