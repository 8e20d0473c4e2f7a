"""Finding a user's function by `package.module:name`, beside the recipe or on Python's path."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from limbeck.errors import InputError, nearest, unknown

__all__ = ["find_callable", "said"]


def find_callable(reference: str, beside: Path | None, where: str) -> Callable[..., Any]:
    """The callable that `package.module:name` names.

    Args:
        reference: module and name.
        beside: folder of the recipe, looked at first.
        where: the recipe's key, for messages.

    Raises:
        InputError: no such module or name, or importing it fails.
    """
    module_name, colon, name = reference.partition(":")
    if not (colon and module_name and name):
        raise InputError(f"{where}: must be py:package.module:factory, got py:{reference}")
    module = _module(module_name, beside, where)
    found = getattr(module, name, None)
    if not callable(found):
        public = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise unknown("factory", name, public, where=f"{where}: {module_name}")
    return found  # type: ignore[no-any-return]


def said(error: Exception) -> str:
    """What somebody else's error says, in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _module(name: str, beside: Path | None, where: str) -> ModuleType:
    with _first_on_path(beside):
        try:
            _forget_namesake(name, beside)
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise InputError(f"{where}: importing {name} failed: {error}") from error
            found = [p.stem for p in beside.glob("*.py")] if beside is not None else []
            places = f"beside the recipe ({beside}) or on Python's path" if beside else "on Python's path"
            raise InputError(f"{where}: there is no module {name} {places}.{nearest(name, found)}") from error
        except Exception as error:
            raise InputError(f"{where}: importing {name} failed: {said(error)}") from error


def _forget_namesake(name: str, beside: Path | None) -> None:
    """Let the module beside the recipe win over one of the same name that was imported from elsewhere."""
    top = name.partition(".")[0]
    loaded = sys.modules.get(top)
    if beside is None or loaded is None:
        return
    mine = [p.resolve() for p in (beside / f"{top}.py", beside / top / "__init__.py") if p.is_file()]
    file = getattr(loaded, "__file__", None)
    if mine and (file is None or Path(file).resolve() not in mine):
        for known in [m for m in sys.modules if m == top or m.startswith(f"{top}.")]:
            del sys.modules[known]


@contextmanager
def _first_on_path(folder: Path | None) -> Iterator[None]:
    before = list(sys.path)
    if folder is not None:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before
