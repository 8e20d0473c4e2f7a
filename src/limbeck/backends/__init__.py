"""Faster ways to run a frozen teacher, with the same answers.

`eager` runs the network as it is written. `compile`, `onnxruntime` and `openvino` are exact: float32, answers
equal up to rounding. `int8` is not, and `drift` says by how much. `choose` times the exact ones on the real
batch and takes the fastest. All take what the network takes, raw pixels in [0, 1], and leave it untouched.
"""

from limbeck.backends.base import EXACT, NAMES, Backend
from limbeck.backends.building import build, hindrance, offered
from limbeck.backends.choosing import Choice, choose
from limbeck.backends.compiled import Several, build_many
from limbeck.backends.drifting import Drift, drift

__all__ = [
    "EXACT",
    "NAMES",
    "Backend",
    "Choice",
    "Drift",
    "Several",
    "build",
    "build_many",
    "choose",
    "drift",
    "hindrance",
    "offered",
]
