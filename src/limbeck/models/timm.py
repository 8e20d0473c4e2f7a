"""`timm:resnet18` and every other network that timm knows."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from limbeck import locating
from limbeck.errors import InputError, WorkError, unknown
from limbeck.inputs import InputSpec, per_channel
from limbeck.models.request import (
    Built,
    Request,
    check_kinds,
    constructor_options,
    on_meta,
    unexpected_option,
)

__all__ = ["build"]

RESERVED = {
    "pretrained": "`pretrained:` beside the model",
    "checkpoint_path": "`weights:`",
    "pretrained_cfg": "`input:`",
    "pretrained_cfg_overlay": "`input:`",
    "features_only": "`layers:` of a term",
}
"""Arguments of `timm.create_model` that a recipe says in its own words, or that would change the answer."""


def build(request: Request) -> Built:
    """One of timm's networks, with the mean and deviation of its configuration.

    The size is the configuration's where the network takes no other or brings downloaded weights; else images
    keep the size of the data.
    """
    import timm

    where, name = request.where, request.name
    if not timm.is_model(name.split(".")[0]):
        raise unknown("network", name, timm.list_models(), f"{where}.model (timm:)")
    for key, instead in RESERVED.items():
        if key in request.options:
            raise InputError(f"{where}.{key}: is not an option here; use {instead}.")
    options = {"num_classes": request.classes, "in_chans": request.channels, **request.options}
    model = _create(request, options)
    check_kinds(inspect.signature(type(model).__init__), request.options, where)
    return Built(model, _input(model, request, options), f"timm:{name}")


def published_form(
    model: nn.Module,
    name: str,
    options: Mapping[str, Any],
    classes: Sequence[str],
    spec: InputSpec,
    size: tuple[int, int],
    seen: Mapping[str, Any],
) -> dict[str, Any]:
    """What timm wants in the config.json of a folder to build this network again; empty for others.

    Args:
        model: the network.
        name: as a recipe names it.
        options: of its constructor.
        classes: names of the classes.
        spec: what the network expects.
        size: height and width of the images that it was trained on.
        seen: how an evaluation makes these of larger ones: `size`, `resize`, the shorter side before the
            centre is cut out, and `interpolation`; empty where they are as they are.
    """
    config = getattr(model, "pretrained_cfg", None)
    if not name.startswith("timm:") or not isinstance(config, dict):
        return {}
    channels = spec.channels or 3
    height, width = size if spec.size is None else (spec.size, spec.size)
    own = {
        "architecture": name.removeprefix("timm:").split(".")[0],
        "num_classes": len(classes),
        "label_names": list(classes),
        "model_args": {"in_chans": channels, **{k: v for k, v in options.items() if k != "num_classes"}},
    }
    about = {
        "mean": list(spec.mean or (0.0,) * channels),
        "std": list(spec.std or (1.0,) * channels),
        "input_size": [channels, height, width],
        "num_classes": len(classes),
        "crop_pct": _share(height, seen["size"], seen["resize"]) if seen else 1.0,
        "interpolation": seen.get("interpolation", "bilinear"),
        "first_conv": config.get("first_conv"),
        "classifier": config.get("classifier"),
    }
    return {**own, "pretrained_cfg": about}


def _share(side: int, size: int, resize: int) -> float:
    """The share `size`/`resize` of an image's side that is cut out, such that timm does the same.

    It takes the shorter side as `side` over this share, rounded down: one that floating point leaves a hair
    below a whole number would lose a pixel.
    """
    share = size / resize
    while math.floor(side / share) < side * resize // size:
        share = math.nextafter(share, 0)
    return share


def _create(request: Request, options: dict[str, Any]) -> nn.Module:
    import timm

    name = f"timm:{request.name}"
    local = locating.published(request.name, beside=request.beside) if request.pretrained else None
    if local is not None:
        options = {**options, "pretrained_cfg_overlay": {"file": str(local)}}
    try:
        model: nn.Module = timm.create_model(request.name, pretrained=request.pretrained, **options)
    except (OSError, ConnectionError) as error:
        raise WorkError(
            f"{request.where}: the weights of {name} cannot be downloaded ({error}). "
            "Nothing was started. Check the connection, or name a file by `weights:`."
        ) from error
    except Exception as error:
        key = unexpected_option(error, options)
        if key is not None:
            allowed = constructor_options(on_meta(lambda: timm.create_model(request.name)))
            raise unknown("option", key, allowed, request.where) from error
        raise InputError(f"{request.where}: {name} with {options} failed: {error}") from error
    return model


def _input(model: Any, request: Request, options: dict[str, Any]) -> InputSpec:
    config = model.pretrained_cfg
    channels = int(options["in_chans"])
    size: int | None = None
    fixed = bool(config.get("fixed_input_size")) and not options.get("dynamic_img_size")
    if "img_size" in options:
        given = options["img_size"]
        sides = {given} if isinstance(given, int) else set(given)
        if len(sides) != 1:
            raise InputError(f"{request.where}.img_size: must be a square, got {given}.")
        size = int(sides.pop())
    elif fixed or request.pretrained:
        size = int(config["input_size"][-1])
    return InputSpec(
        per_channel(config["mean"], channels), per_channel(config["std"], channels), size, channels
    )
