"""Finding a user's object by `package.module:name`, beside the recipe or among what is installed."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from limbeck.errors import InputError, nearest, unknown

__all__ = ["find_callable", "find_object", "said"]

_from_folders: dict[str, Path] = {}
"""Modules imported from a recipe's folder, and from which: another recipe's file of that name replaces it."""


def find_callable(
    reference: str, *, beside: Path | None, where: str, prefix: str = "py:"
) -> Callable[..., Any]:
    """The function or class that `package.module:name` names; see `find_object`.

    Raises:
        InputError: as `find_object`, or it cannot be called.
    """
    found = find_object(reference, beside=beside, where=where, prefix=prefix, wanted="factory")
    if not callable(found):
        kind = type(found).__name__
        raise InputError(f"{where}: {prefix}{reference} is {kind}, not a function or a class.")
    return found  # type: ignore[no-any-return]  # callable: checked above


def find_object(
    reference: str,
    *,
    beside: Path | None,
    where: str,
    prefix: str = "",
    wanted: str = "name",
    fits: Callable[[Any], bool] = callable,
) -> Any:
    """The object that `package.module:name` names.

    Args:
        reference: module, colon, name; the name may have dots.
        beside: folder of the recipe, searched first; then the current folder, then what is installed.
        where: place in the recipe, for messages; may be empty.
        prefix: what stands before the reference in a recipe ("py:"), for messages.
        wanted: what the name should name ("factory", "class"), for messages.
        fits: which of the module's names a message about an unknown one lists.

    Raises:
        InputError: the text has another form, there is no such module or name, or importing it fails.
    """
    place = f"{where}: " if where else ""
    path, _, name = reference.partition(":")
    if not all(part.isidentifier() for part in [*path.split("."), *name.split(".")]):
        raise InputError(f'{place}must be "{prefix}package.module:{wanted}", got "{prefix}{reference}".')
    found: Any = _module(path, beside, place)
    for part in name.split("."):
        if not hasattr(found, part):
            public = [n for n, v in vars(found).items() if not n.startswith("_") and fits(v)]
            file = getattr(found, "__file__", None) or path
            raise unknown(wanted, part, public, f"{place}{file}")
        found = getattr(found, part)
    return found


def said(error: BaseException) -> str:
    """What somebody else's error says, in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _module(path: str, beside: Path | None, place: str) -> ModuleType:
    folders = [folder.resolve() for folder in (beside, Path.cwd()) if folder is not None]
    top = path.partition(".")[0]
    home = next((f for f in folders if _holds(f, path)), None)
    if home is not None:
        _forget_namesake(top, home, place)
    try:
        with _searched(folders):
            module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise _failed(path, place, error) from error
        near = nearest(path, [p.stem for f in folders for p in f.glob("*.py")])
        places = ", ".join(map(str, dict.fromkeys(folders)))
        raise InputError(
            f'{place}no module "{path}". Looked in {places}, then what is installed.{near}'
        ) from error
    except (Exception, SystemExit) as error:  # whatever somebody's file does when it is read
        raise _failed(path, place, error) from error
    if home is not None and Path(module.__file__ or "").resolve().is_relative_to(home):
        _from_folders.setdefault(top, home)
    return module


def _holds(folder: Path, path: str) -> bool:
    """Whether a module lies in a folder: in a file, in a package, or in a folder without `__init__.py`."""
    top, inner = path.partition(".")[0], folder.joinpath(*path.split("."))
    files = (
        folder / f"{top}.py",
        folder / top / "__init__.py",
        inner.with_suffix(".py"),
        inner / "__init__.py",
    )
    return any(file.is_file() for file in files)


def _forget_namesake(top: str, home: Path, place: str) -> None:
    """Let the module beside the recipe win over one of the same name from the folder of another recipe.

    Raises:
        InputError: the namesake came from elsewhere, and others may rely on it.
    """
    loaded = sys.modules.get(top)
    if loaded is None or _from_folders.get(top) == home:
        return
    origins = [
        Path(p).resolve() for p in (getattr(loaded, "__file__", None), *getattr(loaded, "__path__", ())) if p
    ]
    if any(origin.is_relative_to(home) for origin in origins):
        return
    if top not in _from_folders:
        if not any(file.is_file() for file in (home / f"{top}.py", home / top / "__init__.py")):
            return  # a plain folder, which an installed package precedes
        origin = origins[0] if origins else "Python itself"
        raise InputError(
            f'{place}"{top}" lies in {home}, but another module of that name is loaded already ({origin}); '
            "give the file another name."
        )
    del _from_folders[top]
    for known in [m for m in sys.modules if m == top or m.startswith(f"{top}.")]:
        del sys.modules[known]


@contextmanager
def _searched(folders: list[Path]) -> Iterator[None]:
    """These folders searched first, until the end of the block."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in folders]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _failed(path: str, place: str, error: BaseException) -> InputError:
    """Importing a user's file went wrong: say in which line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    line = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return InputError(f'{place}importing "{path}" failed: {said(error)}{line}.')
