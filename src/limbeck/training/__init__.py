"""The loop and what it stands on."""

from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

__all__ = ["Runtime", "Trainer", "Training"]
