"""From a name with a prefix to a network."""

from collections.abc import Callable, Mapping
from pathlib import Path

from limbeck.errors import InputError, unknown
from limbeck.models import cifar, hub, python, run, timm, torchvision
from limbeck.models.request import Built, Request

__all__ = ["PREFIXES", "Built", "build"]

PREFIXES: Mapping[str, Callable[[Request], Built]] = {
    "cifar": cifar.build,
    "timm": timm.build,
    "torchvision": torchvision.build,
    "py": python.build,
    "run": run.build,
    "hf": hub.build,
}
LATER = ("onnx",)


def build(
    name: str,
    *,
    classes: int,
    channels: int,
    size: tuple[int, int],
    options: Mapping[str, object],
    where: str,
    beside: Path | None = None,
    pretrained: bool = False,
) -> Built:
    """The network that a recipe names.

    Args:
        name: prefix and name, such as "cifar:resnet20" or "py:package.module:factory".
        classes: number of classes of the data; filled in where `options` name none.
        channels: number of channels of the data; likewise.
        size: height and width of the data; given to `py:` factories that require it.
        options: keyword arguments of the network's constructor, checked against its signature.
        where: place in the recipe ("student"), for messages.
        beside: folder of the recipe, where `py:` modules and `run:` folders are looked for as well.
        pretrained: take the weights that timm or torchvision offer for download.

    Returns:
        The network in float32 on the CPU, in training mode, its initial weights drawn from torch's default
        generator, and what it expects as its input.

    Raises:
        InputError: unknown prefix, name or option, options of the wrong kind, a factory that fails.
        WorkError: pretrained weights cannot be downloaded.
    """
    prefix, colon, rest = name.partition(":")
    if not colon or not rest:
        listed = ", ".join(f"{p}:NAME" for p in PREFIXES)
        raise InputError(f'{where}.model: "{name}" names no network. Allowed: {listed}.')
    if prefix in LATER:
        raise InputError(
            f'{where}.model: "{prefix}:" is not yet supported. Allowed: {":, ".join(PREFIXES)}:.'
        )
    if prefix not in PREFIXES:
        raise unknown("prefix", prefix, PREFIXES, f"{where}.model")
    request = Request(
        name=rest,
        classes=classes,
        channels=channels,
        size=size,
        options=dict(options),
        where=where,
        beside=beside,
        pretrained=pretrained,
        build=build,
    )
    return PREFIXES[prefix](request)
