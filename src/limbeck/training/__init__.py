"""The loop and what it stands on."""

from limbeck.training.ema import Averaging
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Training
from limbeck.training.trainer import Trainer

__all__ = ["Averaging", "Runtime", "Trainer", "Training"]
