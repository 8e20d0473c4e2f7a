"""Downloads: complete and checked, or nothing at all. Everything comes from this machine."""

import gzip
import hashlib
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from made_data import write_cifar

from limbeck.data import cifar, load
from limbeck.data.download import Archive, fetch
from limbeck.errors import InputError, WorkError


class Quiet(SimpleHTTPRequestHandler):
    """A file server that counts requests and does not log."""

    asked: list[str]

    def __init__(self, *args: object, asked: list[str], **keywords: object) -> None:
        self.asked = asked
        super().__init__(*args, **keywords)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Address of a server, the folder that it serves, and the paths asked for."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()
    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder), asked=asked))
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", folder, asked
    running.shutdown()
    thread.join()
    running.server_close()


def checksum(path: Path, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, path.read_bytes()).hexdigest()}"


def pack(folder: Path, into: Path, name: str | None = None) -> Path:
    with tarfile.open(into, "w:gz") as tar:
        tar.add(folder, arcname=name or folder.name)
    return into


@pytest.fixture
def packed(server: tuple[str, Path, list[str]], tmp_path: Path) -> Archive:
    """A small archive on the server: set/a.txt and set/deep/b.txt."""
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "a.txt").write_text("one")
    (tmp_path / "set" / "deep" / "b.txt").write_text("two")
    file = pack(tmp_path / "set", server[1] / "set.tar.gz")
    return Archive(f"{server[0]}/set.tar.gz", checksum(file))


def left(folder: Path) -> list[str]:
    """What lies in the folder, the lock aside."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.name.endswith(".lock"))


FILES = ("set/a.txt", "set/deep/b.txt")


def test_archive_is_unpacked_once(
    packed: Archive, server: tuple[str, Path, list[str]], tmp_path: Path
) -> None:
    into = tmp_path / "new" / "cache"
    for _ in range(2):
        fetch(packed, into, FILES, what="set")
        assert left(into) == ["set", "set/a.txt", "set/deep", "set/deep/b.txt"]
        assert (into / "set/deep/b.txt").read_text() == "two"
    assert server[2] == ["/set.tar.gz"]


def test_a_half_deleted_data_set_is_downloaded_again(packed: Archive, tmp_path: Path) -> None:
    fetch(packed, tmp_path / "cache", FILES, what="set")
    (tmp_path / "cache" / "set" / "a.txt").unlink()
    fetch(packed, tmp_path / "cache", FILES, what="set")
    assert (tmp_path / "cache" / "set" / "a.txt").read_text() == "one"


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_plain_file_from_a_file_address_is_kept_as_it_is(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "values.gz"
    source.write_bytes(gzip.compress(b"values"))
    fetch(Archive(source.as_uri(), checksum(source, kind)), tmp_path / "cache", ["values.gz"], what="set")
    assert gzip.decompress((tmp_path / "cache" / "values.gz").read_bytes()) == b"values"


def test_wrong_checksum_keeps_nothing(packed: Archive, tmp_path: Path) -> None:
    wrong = replace(packed, checksum="sha256:" + "0" * 64)
    with pytest.raises(WorkError, match=rf"has the checksum {packed.checksum}, expected sha256:0000"):
        fetch(wrong, tmp_path / "cache", FILES, what="set")
    assert left(tmp_path / "cache") == []


def test_archive_that_cannot_be_unpacked_keeps_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(gzip.compress(b"x" * 5000)[:-20])
    with pytest.raises(WorkError, match="cannot be unpacked"):
        fetch(Archive(broken.as_uri(), checksum(broken)), tmp_path / "cache", FILES, what="set")
    assert left(tmp_path / "cache") == []


def test_members_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    file = pack(tmp_path / "evil", tmp_path / "evil.tar.gz", name="../escaped")
    with pytest.raises(WorkError, match="cannot be unpacked"):
        fetch(Archive(file.as_uri(), checksum(file)), tmp_path / "cache", FILES, what="set")
    assert not list(tmp_path.rglob("escaped"))


def test_archive_without_the_files_is_an_error(packed: Archive, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match=r"does not hold set/c\.txt"):
        fetch(packed, tmp_path / "cache", ["set/c.txt"], what="set")


def test_a_file_that_the_server_does_not_have_is_an_input_error(packed: Archive, tmp_path: Path) -> None:
    gone = replace(packed, url=packed.url.replace("set.tar.gz", "gone.tar.gz"))
    with pytest.raises(
        InputError, match=r"set was not found \(looked in x\), and downloading .*gone.* failed: "
    ):
        fetch(gone, tmp_path / "cache", FILES, what="set", looked="looked in x")
    assert left(tmp_path / "cache") == []


def test_a_server_that_cannot_be_reached_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"downloading http://127\.0\.0\.1:9/set\.tar\.gz failed"):
        fetch(Archive("http://127.0.0.1:9/set.tar.gz", "sha256:"), tmp_path / "cache", FILES, what="set")


def test_a_folder_that_cannot_be_made_is_named(packed: Archive, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkError, match=r"set cannot be stored in .*file"):
        fetch(packed, tmp_path / "file" / "cache", FILES, what="set")


def test_cifar_is_downloaded_into_the_cache(
    server: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = cifar._SETS["cifar10"]
    spec = replace(spec, records=dict.fromkeys(spec.records, 20))
    write_cifar(tmp_path / spec.folder, spec.records, labels=1, classes=10, names=spec.names)
    file = pack(tmp_path / spec.folder, server[1] / "cifar.tar.gz")
    spec = replace(spec, archive=Archive(f"{server[0]}/cifar.tar.gz", checksum(file)))
    monkeypatch.setattr(cifar, "_SETS", {"cifar10": spec})
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LIMBECK_DATA", raising=False)
    for _ in range(2):
        assert len(load("cifar10").train) == 100
    assert server[2] == ["/cifar.tar.gz"]
