"""`hf:OWNER/NAME[@REVISION]`: a network from the Hugging Face Hub, or from a folder in its form (`hf:./x`).

Two kinds are read: students that `limbeck push` wrote, and timm's models. No code of a repository is run, and
none that a repository names: a student whose network is its owner's own code is not built from there.
"""

import json
from pathlib import Path
from typing import Any

from limbeck import weights
from limbeck.errors import InputError, WorkError
from limbeck.inputs import InputSpec, per_channel
from limbeck.models.request import Built, Request

__all__ = ["CONFIG", "WEIGHTS", "answers", "build", "is_local", "is_pushed", "is_trusted", "origin", "views"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_NEEDED = [CONFIG, "*.safetensors", "*.bin"]

_TRUSTED = ("cifar:", "timm:", "torchvision:", "py:limbeck.students.")
"""What a repository may name: networks whose code is here already, and nothing else that could be called."""


def is_local(name: str) -> bool:
    """Whether a name means a folder and not a repository: it begins with `.`, `/` or `~`."""
    return name.startswith((".", "/", "~"))


def is_pushed(folder: Path) -> bool:
    """Whether a folder holds a student that `limbeck push` wrote."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and isinstance(config.get("limbeck"), dict)


def build(request: Request) -> Built:
    """The network of a repository, its weights included.

    Raises:
        InputError: there is no such repository or folder, or it holds no network that can be read.
        WorkError: it cannot be downloaded.
    """
    folder, config = _opened(request.name, request.beside, f"{request.where}.model")
    if "limbeck" in config:
        return _student(request, folder, config["limbeck"])
    return _timm(request, folder, config)


def is_trusted(model: str) -> bool:
    """Whether a repository may name this model: its code is here already, and is nothing but a network's."""
    return model.startswith(_TRUSTED)


def origin(name: str, beside: Path | None, where: str) -> tuple[str, dict[str, Any]]:
    """What the network of a repository is built by: a model as recipes name it, and its options.

    Args:
        name: as after `hf:`.
        beside: folder of the recipe that names it.
        where: place in the recipe, for messages.

    Raises:
        InputError: as `build`; or it is a composite, which no model's name builds.
    """
    from limbeck.composing import is_composite, told

    folder, config = _opened(name, beside, where)
    if "limbeck" not in config:
        own = {k: v for k, v in config.get("model_args", {}).items() if k not in ("in_chans", "num_classes")}
        return f"timm:{config['architecture']}", own
    notes = weights.metadata(folder / WEIGHTS)
    if is_composite(notes):
        raise InputError(f"{where}: hf:{name} {told(notes)}, which no model's name builds.")
    return str(config["limbeck"].get("model")), dict(config["limbeck"].get("options") or {})


def answers(name: str, beside: Path | None, where: str) -> int | None:
    """How many classes a model of timm's in a repository tells apart; None for a student that was pushed.

    Args:
        name, beside, where: as of `origin`.

    Raises:
        InputError: as `build`.
    """
    config = _opened(name, beside, where)[1]
    return None if "limbeck" in config else _classes(config)


def _classes(config: dict[str, Any]) -> int:
    about = config.get("pretrained_cfg") or {}
    return int(config.get("num_classes") or about.get("num_classes") or 1000)


def views(name: str, beside: Path | None, where: str) -> dict[str, Any]:
    """How a folder's images were shown where a pushed student was evaluated, as options of `data.views`.

    Args:
        name, beside, where: as of `origin`.

    Returns:
        `size`, `resize` and `interpolation` as far as they are known; of a model of timm's, nothing is.

    Raises:
        InputError: as `build`.
    """
    own = _opened(name, beside, where)[1].get("limbeck", {})
    found = {key: own[key] for key in ("resize", "interpolation") if own.get(key) is not None}
    match own.get("size"):
        case [height, width] if height == width:
            found["size"] = height
    return found


def _opened(name: str, beside: Path | None, where: str) -> tuple[Path, dict[str, Any]]:
    """The folder of a repository, and what its configuration says: of a student, or of a model of timm."""
    folder = _local(name, beside, where) if is_local(name) else _downloaded(name, where)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where}: hf:{name} holds no {CONFIG}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {folder / CONFIG} cannot be read: {error}.") from error
    if isinstance(config, dict) and (isinstance(config.get("limbeck"), dict) or "architecture" in config):
        return folder, config
    kind = config.get("model_type") if isinstance(config, dict) else None
    told = f" (it is a {kind} of transformers)" if kind else ""
    raise InputError(
        f"{where}: hf:{name} is neither a student that limbeck pushed nor a model of timm{told}; "
        "others are not yet supported."
    )


def _local(name: str, beside: Path | None, where: str) -> Path:
    given = Path(name).expanduser()
    places = [given] if given.is_absolute() or beside is None else [beside / given, given]
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"{where}: there is no folder hf:{name}. Looked at: {', '.join(map(str, places))}.")


def _downloaded(name: str, where: str) -> Path:
    """The repository's files, in the hub's own cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=_NEEDED))
    except HFValidationError as error:
        raise InputError(f'{where}: "{name}" must look like OWNER/NAME or OWNER/NAME@REVISION.') from error
    except GatedRepoError as error:
        raise InputError(f"{where}: hf:{name} asks for a permission: log in by `hf auth login`.") from error
    except RevisionNotFoundError as error:
        raise InputError(f'{where}: hf:{repository} has no revision "{revision}".') from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{where}: the hub has no hf:{name}, or it is private: then log in by `hf auth login`. A folder "
            "is named hf:./folder."
        ) from error
    except LocalEntryNotFoundError as error:
        raise WorkError(
            f"{where}: hf:{name} is not in the cache, and the hub cannot be reached (HF_HUB_OFFLINE may be "
            "set)."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise WorkError(f"{where}: hf:{name} cannot be downloaded: {error}.") from error


def _student(request: Request, folder: Path, config: dict[str, Any]) -> Built:
    """A student as `limbeck push` wrote it."""
    from limbeck.composing import recompose

    if request.options:
        raise InputError(f"{request.where}: hf:{request.name} is a finished student and takes no options.")
    model = str(config.get("model"))
    if not is_trusted(model):
        raise InputError(
            f"{request.where}.model: hf:{request.name} is of {model}, code that is not part of limbeck and "
            "is never run because a repository names it. Name that model here, with weights: "
            f"{folder / WEIGHTS}."
        )
    try:
        built = request.build(
            model,
            classes=len(config["classes"]),
            channels=int(config["channels"]),
            size=tuple(int(side) for side in config["size"]),
            options=dict(config["options"]),
            where=request.where,
            beside=folder,
        )
        spec = _spec(config["input"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{request.where}: {folder / CONFIG} is damaged: {error!r}.") from error
    file = folder / WEIGHTS
    network = recompose(built.model, weights.metadata(file))
    weights.load(network, file, where=request.where)
    return Built(network, spec, f"hf:{request.name}")


def _spec(given: dict[str, Any]) -> InputSpec:
    mean, std, size, channels = (given[key] for key in ("mean", "std", "size", "channels"))
    return InputSpec(
        None if mean is None else tuple(mean), None if std is None else tuple(std), size, channels
    )


def _timm(request: Request, folder: Path, config: dict[str, Any]) -> Built:
    """A model of timm, which reads such a folder by itself; another number of classes makes a new head."""
    import timm

    own = _classes(config)
    options: dict[str, Any] = {"in_chans": request.channels, **request.options}
    # As many as it has: which of them stand for the data's is the recipe's to say (teacher.classes).
    options.setdefault("num_classes", own if request.where == "teacher" else request.classes)
    try:
        model = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True, **options)
    except Exception as error:
        raise InputError(f"{request.where}: hf:{request.name} cannot be built by timm: {error}") from error
    about = model.pretrained_cfg
    channels = int(options["in_chans"])
    return Built(
        model,
        InputSpec(
            per_channel(about["mean"], channels),
            per_channel(about["std"], channels),
            int(about["input_size"][-1]),
            channels,
        ),
        f"hf:{request.name}",
    )
