"""Who teaches whom."""

from limbeck.schemes.base import Scheme
from limbeck.schemes.offline import Offline
from limbeck.schemes.several import Several

__all__ = ["Offline", "Scheme", "Several"]
