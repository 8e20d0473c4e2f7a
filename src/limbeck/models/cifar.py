"""`cifar:resnet20` and its like: our own networks for small images, see `limbeck.students`."""

from collections.abc import Callable
from inspect import isfunction

from torch import nn

from limbeck.errors import unknown
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputSpec, per_channel
from limbeck.models.request import Built, Request, call, fill
from limbeck.students import cifar, mobilenet, resnet50, shufflenet, vgg, wrn

__all__ = ["FACTORIES", "build"]

FACTORIES: dict[str, Callable[..., nn.Module]] = {
    name: factory
    for module in (cifar, resnet50, wrn, vgg, mobilenet, shufflenet)
    for name in module.__all__
    if isfunction(factory := getattr(module, name))
}


def build(request: Request) -> Built:
    """One of the networks, with the input statistics of the checkpoints in circulation.

    A name may be written with hyphens, as the papers write it: `wrn-40-2`.
    """
    short = request.name.replace("-", "_")
    if short not in FACTORIES:
        raise unknown("network", request.name, FACTORIES, f"{request.where}.model (cifar:)")
    request.refuse_pretrained("cifar")
    name = f"cifar:{short}"
    factory = FACTORIES[short]
    model: nn.Module = call(factory, fill(request, factory), where=request.where, name=name)
    channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    mean, std = per_channel(IMAGENET_MEAN, channels), per_channel(IMAGENET_STD, channels)
    return Built(model, InputSpec(mean, std, None, channels), name)
