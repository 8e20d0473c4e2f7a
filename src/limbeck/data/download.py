"""Downloading a data set: checked against its checksum, unpacked in full or not at all."""

import hashlib
import http.client
import shutil
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from limbeck.errors import InputError, WorkError

__all__ = ["Archive", "fetch"]

_PIECE = 1 << 20
_PATIENCE = 60.0  # seconds without a byte


@dataclass(frozen=True)
class Archive:
    """A file on a server: its address, and the checksum of its content as `sha256:HEX` or `md5:HEX`."""

    url: str
    checksum: str

    @property
    def file(self) -> str:
        """Its name."""
        return self.url.rsplit("/", 1)[-1]

    @property
    def packed(self) -> bool:
        """True for an archive of files, which is unpacked; other files are kept as they are."""
        return self.file.endswith((".tar.gz", ".tgz", ".tar"))


def fetch(archive: Archive, folder: Path, files: Sequence[str], *, what: str, looked: str = "") -> None:
    """Download into `folder`; an archive's members land there, a plain file under its own name.

    Several processes may ask at once: one works, the others wait for it and then find the files.

    Args:
        archive: what to download.
        folder: where to, made when missing.
        files: what must be in `folder` afterwards; nothing is done where it is there already.
        what: name of the data set, for messages.
        looked: where it was looked for before, for messages.

    Raises:
        InputError: the server cannot be reached or does not have the file.
        WorkError: what came is not what was expected, or the disk cannot take it.
    """
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{archive.file}.lock"), tempfile.TemporaryDirectory(dir=folder) as aside:
            if not all((folder / file).is_file() for file in files):
                _fetch(archive, folder, Path(aside), what, looked)
                _check(archive, folder, files, what)
    except OSError as error:
        raise WorkError(f"{what} cannot be stored in {folder}: {error}. Nothing was kept.") from error


def _check(archive: Archive, folder: Path, files: Sequence[str], what: str) -> None:
    for file in files:
        if not (folder / file).is_file():
            raise WorkError(f"{what}: {archive.url} does not hold {file}")


def _fetch(archive: Archive, folder: Path, aside: Path, what: str, looked: str) -> None:
    packed = aside / "packed"
    found = _download(archive, packed, what, looked)
    if found != archive.checksum:
        raise WorkError(
            f"{what}: {archive.url} has the checksum {found}, expected {archive.checksum}. The download is "
            "damaged or the file has changed; nothing was kept. Try again."
        )
    if not archive.packed:
        packed.replace(folder / archive.file)
        return
    unpacked = aside / "unpacked"
    try:
        with tarfile.open(packed) as tar:
            tar.extractall(unpacked, filter="data")
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise WorkError(f"{what}: {archive.url} cannot be unpacked: {error}. Nothing was kept.") from error
    for member in sorted(unpacked.iterdir()):
        shutil.rmtree(folder / member.name, ignore_errors=True)
        member.replace(folder / member.name)


def _download(archive: Archive, target: Path, what: str, looked: str) -> str:
    """Store the file and give its checksum."""
    before = f"{what} was not found ({looked}), and " if looked else f"{what}: "
    try:
        request = urllib.request.Request(archive.url, headers={"User-Agent": "limbeck"})
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            with _bar(f"downloading {what}", total) as advance, target.open("wb") as file:
                return _copy(answer, file, archive.checksum.partition(":")[0], advance)
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"data.source: {before}downloading {archive.url} failed: {reason}") from error


def _copy(answer: IO[bytes], file: IO[bytes], kind: str, advance: "_Advance") -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    while piece := answer.read(_PIECE):
        digest.update(piece)
        file.write(piece)
        advance(len(piece))
    return f"{kind}:{digest.hexdigest()}"


class _Advance:
    """Tell a progress bar how many bytes came; without a bar, nothing."""

    def __call__(self, count: int) -> None:
        """Count bytes."""


@contextmanager
def _bar(text: str, total: int) -> Iterator[_Advance]:
    """A progress bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield _Advance()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(text), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(text, total=total or None)

        class Advance(_Advance):
            def __call__(self, count: int) -> None:
                progress.advance(task, count)

        yield Advance()
