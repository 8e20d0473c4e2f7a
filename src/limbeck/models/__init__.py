"""Networks by name: `cifar:resnet20`, `timm:…`, `torchvision:…`, `hf:…`, `py:module:name`, `run:FOLDER`."""

from limbeck.models.base import Built, build
from limbeck.models.measures import multiply_adds, parameters

__all__ = ["Built", "build", "multiply_adds", "parameters"]
