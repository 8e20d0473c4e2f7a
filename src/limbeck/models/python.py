"""`py:package.module:factory`: a user's own network, from an installed package or beside the recipe."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from limbeck.errors import InputError, unknown
from limbeck.inputs import InputSpec
from limbeck.models.request import Built, Request, call, fill

__all__ = ["build", "find_object"]

_from_folders: dict[str, Path] = {}
"""Modules imported from a recipe's folder, and from which: another recipe's file of that name replaces it."""


def build(request: Request) -> Built:
    """Calls the factory with the options; the network's `input_spec`, if it has one, says what it expects."""
    name, where = f"py:{request.name}", request.where
    factory = find_object(request.name, beside=request.beside, where=f"{where}.model")
    if not callable(factory):
        raise InputError(f"{where}.model: {name} is {type(factory).__name__}, not a function or a class.")
    try:
        declared = inspect.signature(factory).parameters
    except ValueError as error:
        raise InputError(
            f"{where}.model: {name} has no signature that its options could be checked by."
        ) from error
    options = fill(request, factory)
    if request.pretrained:
        if "pretrained" not in declared:
            request.refuse_pretrained("py")
        options["pretrained"] = True
    model = call(factory, options, where=where, name=name)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{where}.model: {name} must return torch.nn.Module, returned {type(model).__name__}."
        )
    return Built(model, _spec(getattr(model, "input_spec", None), f"{name}, input_spec"), name)


def _spec(given: object, where: str) -> InputSpec:
    if given is None or isinstance(given, InputSpec):
        return given or InputSpec()
    if not isinstance(given, Mapping):
        raise InputError(
            f"{where}: must be limbeck.inputs.InputSpec or a mapping, got {type(given).__name__}."
        )
    values = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in given.items()}
    spec: InputSpec = call(InputSpec, values, where=where, name="InputSpec")
    return spec


def find_object(spec: str, *, beside: Path | None, where: str) -> Any:
    """The object that "package.module:name" names.

    Args:
        spec: module, colon, name; the name may have dots.
        beside: folder of the recipe, searched first; then the current folder, then what is installed.
        where: place in the recipe, for messages.

    Raises:
        InputError: the text has another form, there is no such module or name, or importing it fails.
    """
    path, _, name = spec.partition(":")
    if not name or not all(part.isidentifier() for part in [*path.split("."), *name.split(".")]):
        raise InputError(f'{where}: must be "py:package.module:name", got "py:{spec}".')
    found: Any = _module(path, beside, where)
    for part in name.split("."):
        if not hasattr(found, part):
            public = [n for n in dir(found) if not n.startswith("_")]
            place = getattr(found, "__file__", None) or path
            raise unknown("name", part, public, f"{where} ({place})")
        found = getattr(found, part)
    return found


def _module(path: str, beside: Path | None, where: str) -> ModuleType:
    folders = [folder.resolve() for folder in (beside, Path.cwd()) if folder is not None]
    top = path.split(".")[0]
    home = next((f for f in folders if (f / f"{top}.py").is_file() or (f / top).is_dir()), None)
    if top in _from_folders and home is not None and _from_folders[top] != home:
        for loaded in [m for m in sys.modules if m == top or m.startswith(f"{top}.")]:
            del sys.modules[loaded]
    try:
        fresh = top not in sys.modules
        with _searched(folders):
            module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(f"{error.name}.")):
            places = ", ".join(map(str, folders))
            raise InputError(
                f'{where}: no module "{path}". Looked in {places}, then what is installed.'
            ) from error
        raise _failed(path, where, error) from error
    except Exception as error:
        raise _failed(path, where, error) from error
    if fresh and home is not None and Path(module.__file__ or "").is_relative_to(home):
        _from_folders[top] = home
    return module


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


def _failed(path: str, where: str, error: Exception) -> InputError:
    """Importing a user's file went wrong: say in which line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "importlib" not in f.filename and f.filename != __file__]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    return InputError(f'{where}: importing "{path}" failed: {type(error).__name__}: {error}{place}.')
