"""A folder of a teacher's answers: shards of rows that are mapped into memory, and a manifest.

    manifest.json                        what the answers were made from, and a checksum of each shard
    pass-00003-part-002-<checksum>.npy   rows, in the order of the pass

A shard is written beside, forced onto the disk, and then gets its name, which holds its checksum: a shard
that has a name is whole, so that whoever was killed goes on with what is missing. The manifest is written
last and names the passes that are complete; more passes may be added later. Whatever is torn, swapped or of
another cache does not agree with the checksums, and is refused.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.cache.layout import Layout, Rows
from limbeck.errors import InputError
from limbeck.files import draft, explain

__all__ = ["FORMAT", "MANIFEST", "Shard", "Store", "differences"]

FORMAT = 1
"""Number of this way to write answers; a cache of another is refused."""

MANIFEST = "manifest.json"

AT_ONCE = 8 << 30
"""Bytes of shards whose checksums are looked at when a cache is opened; the rest when they are first read."""

_NAME = re.compile(r"pass-(\d{5,})-part-(\d{3,})-([0-9a-f]{32})\.npy")


@dataclass(frozen=True, slots=True)
class Shard:
    """A stretch of the rows of one pass.

    Attributes:
        turn: number of the pass.
        part: number of the shard in its pass.
        first: its first row in the pass.
        last: the row after its last.
    """

    turn: int
    part: int
    first: int
    last: int

    @property
    def stem(self) -> str:
        """How its file's name begins."""
        return f"pass-{self.turn:05d}-part-{self.part:03d}"


@dataclass
class Store:
    """Answers in a folder.

    Attributes:
        folder: where they lie.
        made_from: what they were made from, as plain values; see `limbeck.cache.origin`.
        layout: what a row holds.
        rows: rows of a pass.
        each: rows of a shard; the last of a pass has the remainder.
        passes: passes that are complete.
    """

    folder: Path
    made_from: dict[str, Any]
    layout: Layout
    rows: int
    each: int
    passes: int = 0
    _checksums: dict[str, str] = field(default_factory=dict)
    _maps: dict[tuple[int, int], Rows] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def shards(self, turn: int) -> list[Shard]:
        """The shards of a pass."""
        firsts = range(0, self.rows, self.each)
        return [Shard(turn, n, f, min(f + self.each, self.rows)) for n, f in enumerate(firsts)]

    @property
    def bytes_of_pass(self) -> int:
        """Size of the rows of one pass."""
        return self.rows * self.layout.dtype.itemsize

    # Writing

    def begin(self) -> None:
        """Remove what a killed builder left half written, and the shards that are damaged."""
        for path in self.folder.glob(".pass-*.part"):
            path.unlink(missing_ok=True)
        for path in self.folder.glob("pass-*.npy"):
            match = _NAME.fullmatch(path.name)
            if match is None or not self._whole(path, match[3]):
                path.unlink(missing_ok=True)

    def _whole(self, path: Path, checksum: str) -> bool:
        try:
            rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return False
        return bool(rows.dtype == self.layout.dtype) and _checksum(rows) == checksum

    def present(self) -> set[str]:
        """The stems of the shards that are there."""
        names = [_NAME.fullmatch(path.name) for path in self.folder.glob("pass-*.npy")]
        return {f"pass-{match[1]}-part-{match[2]}" for match in names if match is not None}

    def write(self, shard: Shard, rows: Rows) -> None:
        """Write the rows of a shard.

        Raises:
            WorkError: the disk is full, or the folder cannot be written.
        """
        with draft(self.folder / f"{shard.stem}-{_checksum(rows)}.npy") as part, part.open("wb") as file:
            np.save(file, rows, allow_pickle=False)

    def finish(self, passes: int) -> None:
        """Say that so many passes are complete.

        Raises:
            InputError: a shard of them is not there, or there twice.
        """
        checksums: dict[str, str] = {}
        for path in sorted(self.folder.glob("pass-*.npy")):
            match = _NAME.fullmatch(path.name)
            if match is None or int(match[1]) >= passes:
                continue
            stem = f"pass-{match[1]}-part-{match[2]}"
            if stem in checksums:
                raise InputError(f"teacher.cache: {self.folder} holds {stem} twice; delete the folder.")
            checksums[stem] = match[3]
        wanted = [shard.stem for turn in range(passes) for shard in self.shards(turn)]
        missing = [stem for stem in wanted if stem not in checksums]
        if missing:
            raise InputError(
                f"teacher.cache: {self.folder} lacks {missing[0]}; not all processes wrote there."
            )
        self.passes, self._checksums = passes, checksums
        manifest = {
            "format": FORMAT,
            "made_from": self.made_from,
            "layout": self.layout.describe(),
            "rows": self.rows,
            "each": self.each,
            "passes": passes,
            "shards": checksums,
        }
        with draft(self.folder / MANIFEST) as part:
            part.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    # Reading

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """A finished cache; its shards are looked at as far as `AT_ONCE` goes.

        Raises:
            InputError: there is none, it is unreadable, of another format, or a shard is missing or damaged.
        """
        file = folder / MANIFEST
        if not file.is_file():
            begun = ", only the beginning of one" if any(folder.glob("pass-*.npy")) else ""
            raise InputError(
                f"teacher.cache: {folder} holds no cache{begun}; limbeck cache RECIPE makes one."
            )
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["format"] != FORMAT:
                raise InputError(
                    f"teacher.cache: {folder} was written in format {found['format']}, and this Limbeck "
                    f"reads {FORMAT}; make it anew with limbeck cache."
                )
            store = cls(
                folder,
                found["made_from"],
                Layout.described(found["layout"]),
                found["rows"],
                found["each"],
                found["passes"],
                found["shards"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"teacher.cache: {file} cannot be read ({error}); make it anew.") from error
        except OSError as error:
            raise explain(error, file) from error
        store._check_files()
        return store

    def _check_files(self) -> None:
        looked = 0
        for turn in range(self.passes):
            for shard in self.shards(turn):
                path = self._path(shard)
                if not path.is_file():
                    raise InputError(f"teacher.cache: {path} is missing; make the cache anew.")
                looked += path.stat().st_size
                if looked <= AT_ONCE:
                    self._mapped(shard)

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.stem}-{self._checksums.get(shard.stem, '')}.npy"

    def _mapped(self, shard: Shard) -> Rows:
        """The rows of a shard, mapped into memory and once compared with their checksum."""
        key = (shard.turn, shard.part)
        if key in self._maps:
            return self._maps[key]
        path = self._path(shard)
        try:
            rows: Rows = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(
                f"teacher.cache: {path} is damaged ({error}); delete it and run limbeck cache again."
            ) from error
        fits = rows.dtype == self.layout.dtype and rows.shape == (shard.last - shard.first,)
        if not fits or (shard.stem not in self._seen and _checksum(rows) != self._checksums[shard.stem]):
            raise InputError(
                f"teacher.cache: {path} is not what was written there (torn, swapped, or of another cache); "
                "delete it and run limbeck cache again."
            )
        self._seen.add(shard.stem)
        if len(self._maps) > 4096:  # the operating system allows so many maps, and not many more
            self._maps.clear()
        self._maps[key] = rows
        return rows

    def read(self, turn: NDArray[np.int64], place: NDArray[np.int64]) -> Rows:
        """The rows of samples.

        Args:
            turn: number of the pass of each, [B].
            place: place in that pass of each, [B].
        """
        part = place // self.each
        if (part == part[0]).all() and (turn == turn[0]).all():
            whole = self._of(int(turn[0]), int(part[0]))
            found: Rows = whole[place - part[0] * self.each]
            return found
        rows = np.empty(len(place), dtype=self.layout.dtype)
        for key, chosen in _groups(turn, part):
            rows[chosen] = self._of(*key)[place[chosen] - key[1] * self.each]
        return rows

    def _of(self, turn: int, part: int) -> Rows:
        found = self._maps.get((turn, part))
        if found is not None:
            return found
        first = part * self.each
        return self._mapped(Shard(turn, part, first, min(first + self.each, self.rows)))


def differences(before: Any, now: Any, place: str = "") -> list[str]:
    """Where two trees of plain values differ: `teacher.weights: 1f3a… there, 77b0… here`."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for key in sorted({*before, *now})
            for line in differences(before.get(key), now.get(key), f"{place}.{key}" if place else key)
        ]
    return [] if before == now else [f"{place}: {_short(before)} there, {_short(now)} here"]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _groups(
    turn: NDArray[np.int64], part: NDArray[np.int64]
) -> Iterator[tuple[tuple[int, int], NDArray[np.bool_]]]:
    for one in np.unique(turn).tolist():
        for other in np.unique(part[turn == one]).tolist():
            yield (one, other), (turn == one) & (part == other)


def _checksum(rows: Rows) -> str:
    digest = hashlib.blake2b(digest_size=16)
    digest.update(np.ascontiguousarray(rows).view(np.uint8).data)
    return digest.hexdigest()
