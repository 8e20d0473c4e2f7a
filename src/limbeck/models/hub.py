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

__all__ = ["CONFIG", "WEIGHTS", "build", "is_local"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_NEEDED = [CONFIG, "*.safetensors", "*.bin"]

_TRUSTED = ("cifar:", "timm:", "torchvision:", "py:limbeck.students.")
"""What a repository may name: networks whose code is here already, and nothing else that could be called."""


def is_local(name: str) -> bool:
    """Whether a name means a folder and not a repository: it begins with `.`, `/` or `~`."""
    return name.startswith((".", "/", "~"))


def build(request: Request) -> Built:
    """The network of a repository, its weights included.

    Raises:
        InputError: there is no such repository or folder, or it holds no network that can be read.
        WorkError: it cannot be downloaded.
    """
    where = f"{request.where}.model"
    folder = _local(request) if is_local(request.name) else _downloaded(request.name, where)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{where}: hf:{request.name} holds no {CONFIG}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {folder / CONFIG} cannot be read: {error}.") from error
    if isinstance(config, dict) and isinstance(config.get("limbeck"), dict):
        return _student(request, folder, config["limbeck"])
    if isinstance(config, dict) and "architecture" in config:
        return _timm(request, folder, config)
    kind = config.get("model_type") if isinstance(config, dict) else None
    told = f" (it is a {kind} of transformers)" if kind else ""
    raise InputError(
        f"{where}: hf:{request.name} is neither a student that limbeck pushed nor a model of timm{told}; "
        "others are not yet supported."
    )


def _local(request: Request) -> Path:
    given = Path(request.name).expanduser()
    places = [given] if given.is_absolute() or request.beside is None else [request.beside / given, given]
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"{request.where}.model: there is no folder hf:{request.name}. Looked at: "
        f"{', '.join(map(str, places))}."
    )


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
    if not model.startswith(_TRUSTED):
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

    own = int(config.get("num_classes") or 1000)
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
