"""`cifar:resnet20` and its like: our own networks for small images, see `limbeck.students.cifar`."""

from limbeck.errors import unknown
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputSpec, per_channel
from limbeck.models.request import Built, Request, call, fill
from limbeck.students import cifar

__all__ = ["build"]


def build(request: Request) -> Built:
    """One of the residual networks, with the input statistics of the checkpoints in circulation."""
    factories = {name: getattr(cifar, name) for name in cifar.__all__ if name != "ResNet"}
    if request.name not in factories:
        raise unknown("network", request.name, factories, f"{request.where}.model (cifar:)")
    request.refuse_pretrained("cifar")
    name = f"cifar:{request.name}"
    factory = factories[request.name]
    model: cifar.ResNet = call(factory, fill(request, factory), where=request.where, name=name)
    channels = model.conv1.in_channels
    mean, std = per_channel(IMAGENET_MEAN, channels), per_channel(IMAGENET_STD, channels)
    return Built(model, InputSpec(mean, std, None, channels), name)
