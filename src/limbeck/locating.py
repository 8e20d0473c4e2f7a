"""Where files of weights lie: beside the recipe, in the folder of local data, in the cache."""

import os
from pathlib import Path

from limbeck.errors import InputError, nearest

__all__ = ["find", "published"]


def find(name: str, *, beside: Path | None, where: str) -> Path:
    """The weights file with this name.

    Args:
        name: absolute path, or a path relative to one of the places below.
        beside: folder of the recipe; the current folder where there is no recipe.
        where: place of the name in the recipe, for the message.

    Returns:
        The first that exists: beside the recipe, under LIMBECK_DATA/weights, in the cache folder's weights.

    Raises:
        InputError: there is no such file; the message lists the places and the nearest file name.
    """
    given = Path(name).expanduser()
    if given.is_absolute():
        candidates = [given]
    else:
        candidates = [folder / given for folder in _places(beside)]
    for path in candidates:
        if path.is_file():
            return path
    folders = [path.parent for path in candidates if path.parent.is_dir()]
    present = {f.name for folder in folders for f in folder.iterdir() if f.is_file()}
    tried = ", ".join(str(path) for path in candidates)
    unset = "" if given.is_absolute() or os.environ.get("LIMBECK_DATA") else " (LIMBECK_DATA is not set)"
    raise InputError(
        f'{where}: no weights file "{name}". Looked at: {tried}{unset}.{nearest(given.name, present)}'
    )


def published(name: str, *, beside: Path | None) -> Path | None:
    """A local copy of the weights that a library publishes for a network, to do without a download.

    Args:
        name: of the network, as its library calls it ("resnet50", "resnet50.a1_in1k").
        beside: folder of the recipe.

    Returns:
        `NAME.safetensors`, `.pth`, `.pt` or `.bin` in one of the places where `find` looks; None: none.
    """
    for folder in _places(beside):
        for ending in (".safetensors", ".pth", ".pt", ".bin"):
            if (path := folder / f"{name}{ending}").is_file():
                return path
    return None


def _places(beside: Path | None) -> list[Path]:
    data, cache = os.environ.get("LIMBECK_DATA"), os.environ.get("LIMBECK_CACHE")
    if not cache:
        import platformdirs

        cache = platformdirs.user_cache_dir("limbeck")
    places = [Path.cwd() if beside is None else beside]
    if data:
        places.append(Path(data).expanduser() / "weights")
    return [*places, Path(cache).expanduser() / "weights"]
