"""Writing a file so that a reader finds the whole new one or the whole old one, never a torn one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.errors import WorkError

__all__ = ["atomic_folder", "install"]


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder on the disk of `path`, gone afterwards; `install` moves what is finished there.

    Raises:
        WorkError: the disk is full or the folder cannot be written; the file that was there is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        raise WorkError(
            f'cannot write "{path}": {error.strerror or error}; an earlier file of that name is untouched'
        ) from error


def install(written: Path, path: Path) -> None:
    """Put a finished file in its place: on the disk first, then under its name, in one step."""
    with written.open("rb+") as file:
        os.fsync(file.fileno())
    written.replace(path)
