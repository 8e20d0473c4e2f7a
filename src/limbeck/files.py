"""Writing a file so that a reader finds the whole new one or the whole old one, never a torn one."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from limbeck.errors import InputError, WorkError

__all__ = ["alone", "atomic_folder", "draft", "explain", "flush", "install"]


def explain(error: OSError, path: Path) -> WorkError:
    """The error for a file that cannot be written; a full disk is named as such."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    reason = "the disk is full" if full else error.strerror or str(error)
    return WorkError(f"cannot write {path}: {reason}. What was there is untouched.")


@contextmanager
def draft(path: Path, told: Callable[[OSError, Path], WorkError] = explain) -> Iterator[Path]:
    """Where to write a file; on leaving it is installed as `path`, or removed if something was raised.

    Args:
        path: the file.
        told: makes the error of what the disk raised.

    Raises:
        WorkError: the disk is full or the place cannot be written; the file that was there is untouched.
    """
    # One fixed name: a process killed here leaves one such file, and the next one writes over it.
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        install(part, path)
    except OSError as error:
        raise told(error, path) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder on the disk of `path`, gone afterwards; `install` moves what is finished there.

    Raises:
        WorkError: as `draft`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            yield Path(folder)
    except OSError as error:
        raise explain(error, path) from error


@contextmanager
def alone(folder: Path, advice: str) -> Iterator[None]:
    """Keep other processes out of a folder while work goes on there; the lock dies with its process.

    Args:
        folder: made where it is not there.
        advice: what to do where another process is at work.

    Raises:
        InputError: another process is at work there, or the folder cannot be made.
    """
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".lock", timeout=0)
        held.acquire()
    except Timeout as error:
        raise InputError(f"{folder} is in use by another process; {advice}.") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be used: {error.strerror}.") from error
    try:
        yield
    finally:
        held.release()


def install(written: Path, path: Path) -> None:
    """Put a finished file in its place: on the disk first, then under its name, in one step."""
    flush(written)
    written.replace(path)
    flush(path.parent)


def flush(path: Path) -> None:
    """Force a file, or a folder's list of files, onto the disk."""
    if path.is_dir() and os.name != "posix":
        return  # only there can a folder be opened
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
