"""`torchvision:resnet18` and the other classifiers of torchvision."""

import inspect
from typing import Any

from torch import Tensor, nn

from limbeck import locating, weights
from limbeck.errors import InputError, WorkError, unknown
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from limbeck.models.request import (
    Built,
    Request,
    check_kinds,
    constructor_options,
    on_meta,
    unexpected_option,
)

__all__ = ["build"]

RESERVED = {"weights": "`pretrained: true`", "weights_backbone": "`pretrained: true`", "progress": "nothing"}

AUXILIARY = ("googlenet", "inception_v3")
"""These add classifiers while they train and then answer with a tuple; here they do without."""


def build(request: Request) -> Built:
    """One of torchvision's classifiers; all take colour images, normalised by ImageNet's statistics."""
    import torchvision

    where, name = request.where, request.name
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise unknown("network", name, names, f"{where}.model (torchvision:)")
    for key, instead in RESERVED.items():
        if key in request.options:
            raise InputError(f"{where}.{key}: is not an option here; use {instead}.")
    options: dict[str, Any] = {"num_classes": request.classes, **request.options}
    if name in AUXILIARY:
        options = {"aux_logits": False, "init_weights": True, **options}
        if request.pretrained:
            options = {"transform_input": True, **options}
    model = _create(request, options)
    check_kinds(inspect.signature(type(model).__init__), request.options, where)
    size = _download(request, model) if request.pretrained else None
    if isinstance(model, torchvision.models.VisionTransformer):
        size = int(model.image_size)  # it takes no other
    return Built(model, InputSpec(IMAGENET_MEAN, IMAGENET_STD, size, 3), f"torchvision:{name}")


def _create(request: Request, options: dict[str, Any]) -> nn.Module:
    from torchvision.models import get_model

    try:
        model: nn.Module = get_model(request.name, weights=None, **options)
    except Exception as error:
        key = unexpected_option(error, options)
        if key is not None:
            plain = {"init_weights": True} if request.name in AUXILIARY else {}
            allowed = constructor_options(on_meta(lambda: get_model(request.name, weights=None, **plain)))
            raise unknown("option", key, allowed, request.where) from error
        name = f"torchvision:{request.name}"
        raise InputError(f"{request.where}: {name} with {options} failed: {error}") from error
    return model


def _download(request: Request, model: nn.Module) -> int:
    """Fetches the default weights and loads all but, where the numbers of classes differ, the classifier.

    Returns:
        The side of the images that the weights were trained for.
    """
    from torchvision.models import get_model_weights

    default = get_model_weights(request.name).DEFAULT
    local = locating.published(request.name, beside=request.beside)
    try:
        state: dict[str, Tensor] = (
            default.get_state_dict(progress=False, check_hash=True) if local is None else weights.read(local)
        )
    except OSError as error:
        raise WorkError(
            f"{request.where}: the weights of torchvision:{request.name} cannot be downloaded ({error}). "
            "Nothing was started. Check the connection, or name a file by `weights:`."
        ) from error
    misfit = f"{request.where}: the pretrained weights of torchvision:{request.name} do not fit these options"
    own = model.state_dict()
    state = {key: value for key, value in state.items() if not key.lower().startswith("aux")}
    resized = {key for key, value in state.items() if key in own and own[key].shape != value.shape}
    other_classes = len(default.meta["categories"]) != request.options.get("num_classes", request.classes)
    # One layer, with its weight and bias, is the classifier; more: the options made another network of it.
    if resized and (not other_classes or len({key.rpartition(".")[0] for key in resized}) > 1):
        raise InputError(f"{misfit}; other shape: {', '.join(sorted(resized)[:5])}.")
    found = model.load_state_dict({k: v for k, v in state.items() if k not in resized}, strict=False)
    missing = sorted(set(found.missing_keys) - resized)
    if found.unexpected_keys or missing:
        raise InputError(f"{misfit}; missing: {missing[:5]}, unexpected: {found.unexpected_keys[:5]}.")
    return int(default.transforms().crop_size[0])
