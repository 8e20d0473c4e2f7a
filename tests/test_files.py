"""A file is written whole or not at all, and nothing is left lying about."""

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import WorkError
from limbeck.files import atomic_folder, draft, install


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def fail(writer: Callable[[Path], AbstractContextManager[Path]], path: Path, error: BaseException) -> None:
    with writer(path) as place:
        if not place.is_dir():
            place.write_text("new")
        raise error


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with draft(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_folders_are_made(tmp_path: Path) -> None:
    with draft(tmp_path / "a" / "b.txt") as part:
        part.write_text("x")
    assert (tmp_path / "a" / "b.txt").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt()])
def test_whatever_is_raised_the_old_file_stays(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)):
        fail(draft, path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "Permission denied")],
)
@pytest.mark.parametrize("writer", [draft, atomic_folder])
def test_what_the_system_refuses_is_named(tmp_path: Path, writer: Any, number: int, reason: str) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(WorkError, match=rf"cannot write .*a\.txt: {reason}\. What was there is untouched"):
        fail(writer, path, OSError(number, os.strerror(number)))
    assert names(tmp_path) == []


def test_a_place_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot write"), draft(tmp_path / "file" / "a.txt"):
        raise AssertionError("there is nothing to write to")


def test_several_files_are_installed_from_one_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "x" / "a.txt") as folder:
        for name in ("a.txt", "b.txt"):
            (folder / name).write_text(name)
        install(folder / "a.txt", tmp_path / "x" / "a.txt")
    assert names(tmp_path / "x") == ["a.txt"]
