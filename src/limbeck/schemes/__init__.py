"""Who teaches whom."""

from limbeck.schemes.base import Scheme
from limbeck.schemes.offline import Offline

__all__ = ["Offline", "Scheme"]
