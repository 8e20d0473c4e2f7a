"""Networks by name: `cifar:resnet20`, `timm:…`, `torchvision:…`, `py:module:factory`, `run:FOLDER`."""

from limbeck.models.base import Built, build
from limbeck.models.measures import head, multiply_adds, parameters

__all__ = ["Built", "build", "head", "multiply_adds", "parameters"]
