"""`models.get`: networks by name as plain modules, for `KDTrainer`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from limbeck import locating, models, weights
from limbeck.compat.super_gradients.keys import Gone, none_left
from limbeck.compat.super_gradients.networks import network
from limbeck.errors import InputError

__all__ = ["get"]

_GONE = {
    "checkpoint_num_classes": Gone("a file of weights always has to fit the network."),
    "download_required_code": Gone("nothing is fetched but weights.", (True, False)),
    "load_backbone": Gone("is not supported.", (False,)),
    "strict_load": Gone("a file of weights always has to fit the network.", (True,)),
}


def get(
    model_name: str | None = None,
    arch_params: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    *,
    pretrained_weights: str | None = None,
    checkpoint_path: Path | str | None = None,
    num_input_channels: int = 3,
    **others: Any,
) -> nn.Module:
    """A network by name, as `super_gradients.training.models.get` gives one.

    Args:
        model_name: a name of timm's, torchvision's, or of the networks for small images.
        arch_params: num_classes and options of its constructor.
        num_classes: number of logits; None: 1000.
        pretrained_weights: "imagenet": with the weights that timm or torchvision publish (a file of the
            network's name under LIMBECK_DATA/weights does without a download). With other numbers of classes
            than 1000 the classifier starts anew.
        checkpoint_path: a file of weights that fits the network; wins over `pretrained_weights`.
        num_input_channels: channels of the images.

    Returns:
        The network, in training mode; it expects normalised images.

    Raises:
        InputError: no such network, or options or weights that it does not have.
        WorkError: the weights cannot be downloaded.
    """
    taken = ("model_name", "arch_params", "num_classes", "pretrained_weights", "checkpoint_path")
    none_left(others, "models.get", (*taken, "num_input_channels"), _GONE)
    if model_name is None:
        raise InputError("models.get: model_name is missing; name a network.")
    if pretrained_weights not in (None, "imagenet"):
        raise InputError(f'pretrained_weights: must be "imagenet" or None, given {pretrained_weights!r}.')
    params = dict(arch_params or {})
    if num_classes is not None:
        params["num_classes"] = num_classes
    entry = network(model_name, params, where="model_name", params="arch_params")
    if "input" in entry:
        raise InputError(f"arch_params.image_size: {model_name} takes images of any size; leave it out.")
    built = models.build(
        entry["model"],
        classes=1000,
        channels=num_input_channels,
        size=(224, 224),
        options=entry["options"],
        where="models.get",
        pretrained=pretrained_weights == "imagenet" and checkpoint_path is None,
    ).model
    if checkpoint_path is not None:
        file = locating.find(str(checkpoint_path), beside=None, where="checkpoint_path")
        weights.load(built, file, where="checkpoint_path")
    return built
