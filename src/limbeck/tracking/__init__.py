"""Where the figures of a run also go: TensorBoard, Weights & Biases, MLflow, Trackio, CSV."""

from limbeck.tracking.kinds import KINDS, check
from limbeck.tracking.tracking import Tracked, Tracking

__all__ = ["KINDS", "Tracked", "Tracking", "check"]
