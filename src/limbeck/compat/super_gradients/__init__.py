"""SuperGradients' words for distillation, on this library's engine.

The seven steps of its tutorial run as they are written there; `KDModel.to_recipe()` shows what they come to.
What differs on purpose stands in the page "Coming from SuperGradients".
"""

from limbeck.compat.super_gradients import models
from limbeck.compat.super_gradients.data import ImageNetDatasetInterface
from limbeck.compat.super_gradients.launch import MultiGPUMode
from limbeck.compat.super_gradients.losses import (
    ChannelWiseKnowledgeDistillationLoss,
    KDklDivLoss,
    KDLogitsLoss,
    KDOutput,
    LabelSmoothingCrossEntropyLoss,
    SegKDLoss,
)
from limbeck.compat.super_gradients.metrics import Accuracy, Top5
from limbeck.compat.super_gradients.model import KDModel
from limbeck.compat.super_gradients.networks import NormalizationAdapter
from limbeck.compat.super_gradients.trainer import KDTrainer

__all__ = [
    "Accuracy",
    "ChannelWiseKnowledgeDistillationLoss",
    "ImageNetDatasetInterface",
    "KDLogitsLoss",
    "KDModel",
    "KDOutput",
    "KDTrainer",
    "KDklDivLoss",
    "LabelSmoothingCrossEntropyLoss",
    "MultiGPUMode",
    "NormalizationAdapter",
    "SegKDLoss",
    "Top5",
    "models",
]
