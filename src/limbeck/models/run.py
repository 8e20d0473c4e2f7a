"""`run:FOLDER`: the student of a finished run, its weights included."""

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path

from limbeck import weights
from limbeck.errors import InputError, unknown
from limbeck.inputs import InputSpec
from limbeck.models.request import Built, Request

__all__ = ["build", "notes"]


_opened: ContextVar[tuple[Path, ...]] = ContextVar("opened", default=())
"""Folders being built at present: a run whose student comes from a run whose student … must end somewhere."""


def notes(*, classes: int, channels: int, size: tuple[int, int]) -> dict[str, str]:
    """For the head of `student.safetensors`, so that the network can be built again without its data."""
    return {"classes": str(classes), "channels": str(channels), "size": f"{size[0]}x{size[1]}"}


def build(request: Request) -> Built:
    """The network of the run's recipe with the weights of its first seed.

    Numbers of classes and channels are those of the run's own data.
    """
    if request.options:
        raise unknown("option", next(iter(request.options)), [], f"{request.where} (a finished run has none)")
    folder = _folder(request)
    if folder.resolve() in _opened.get():
        raise InputError(f"{request.where}.model: the run {folder} takes its student from itself.")
    token = _opened.set((*_opened.get(), folder.resolve()))
    try:
        return _build(request, folder)
    finally:
        _opened.reset(token)


def _build(request: Request, folder: Path) -> Built:
    from limbeck.runfolder import RunFolder

    recipe = RunFolder(folder).load_recipe()
    network = recipe.student
    file = folder / "student.safetensors"
    classes, channels, size = _shape(weights.metadata(file), request)
    own = network.input
    built = request.build(
        network.model,
        classes=classes,
        # What the network takes; `channels` are those of the images, which its adapter may have changed.
        channels=channels if own is None or own.channels is None else own.channels,
        size=size,
        options=network.options,
        where=request.where,
        beside=folder if _has_module(folder, network.model) else recipe.beside or request.beside,
    )
    from limbeck.composing import recompose

    model = recompose(built.model, weights.metadata(file))
    weights.load(model, file, where=request.where)
    over = None if own is None else InputSpec(own.mean, own.std, own.size, own.channels)
    return Built(model, built.input.override(over), f"run:{request.name}")


def _folder(request: Request) -> Path:
    given = Path(request.name).expanduser()
    places = [given] if given.is_absolute() or request.beside is None else [request.beside / given, given]
    folder = next((place for place in places if place.is_dir()), None)
    where = f"{request.where}.model"
    if folder is None:
        raise InputError(f"{where}: no run folder. Looked at: {', '.join(map(str, places))}.")
    for name in ("recipe.yaml", "student.safetensors"):
        if not (folder / name).is_file():
            raise InputError(f"{where}: {folder} is no finished run: it holds no {name}.")
    return folder


def _has_module(folder: Path, model: str) -> bool:
    top = model.removeprefix("py:").split(":")[0].split(".")[0]
    return (folder / f"{top}.py").is_file() or (folder / top).is_dir()


def _shape(head: Mapping[str, str], request: Request) -> tuple[int, int, tuple[int, int]]:
    """What `notes` wrote; for files without them, what the present data say."""
    try:
        classes = int(head.get("classes", request.classes))
        channels = int(head.get("channels", request.channels))
        height, width = head["size"].split("x") if "size" in head else request.size
        return classes, channels, (int(height), int(width))
    except ValueError as error:
        raise InputError(
            f"{request.where}: the head of student.safetensors is broken: {dict(head)}."
        ) from error
