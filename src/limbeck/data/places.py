"""Where data lie: the folder that a recipe names, LIMBECK_DATA, and the cache folder."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from limbeck.errors import InputError

__all__ = ["cache", "find_folder", "local", "resolve"]


def cache() -> Path:
    """The folder for downloads: LIMBECK_CACHE, else the user's cache folder. It may not exist yet."""
    given = os.environ.get("LIMBECK_CACHE")
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("limbeck"))


def local() -> Path | None:
    """The folder that LIMBECK_DATA names, or None where it is not set."""
    given = os.environ.get("LIMBECK_DATA")
    return Path(given).expanduser() if given else None


def resolve(path: str | Path, beside: Path | None) -> list[Path]:
    """Where a path of a recipe may point: as it stands when absolute, else beside the recipe, then here."""
    given = Path(path).expanduser()
    if given.is_absolute():
        return [given]
    return [*([beside / given] if beside is not None else []), Path.cwd() / given]


def find_folder(
    name: str, files: Sequence[str], *, root: Path | None, extra: Iterable[Path] = ()
) -> tuple[Path | None, list[Path]]:
    """The first folder that holds all files, and the folders looked at.

    With a `root`, only that folder and `root/name` are looked at: a recipe that names a folder must never
    quietly get other data. Without, it is LIMBECK_DATA, then `extra`, then the cache.

    Raises:
        InputError: `root` does not exist.
    """
    if root is not None:
        if not root.is_dir():
            raise InputError(f"data.root: there is no folder {root}")
        places = [root / name, root]
    else:
        here = local()
        places = [*([here / name, here] if here is not None else []), *extra, cache() / name]
    for place in places:
        if all((place / file).is_file() for file in files):
            return place, places
    return None, places
