"""Limbeck: knowledge distillation for PyTorch.

Names are loaded when they are first used, so that `import limbeck` and the command line start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from limbeck import functional as functional
    from limbeck.api import Distilled as Distilled
    from limbeck.api import distill as distill
    from limbeck.comparison import compare as compare
    from limbeck.errors import InputError as InputError
    from limbeck.errors import WorkError as WorkError
    from limbeck.inputs import InputAdapter as InputAdapter
    from limbeck.inputs import InputSpec as InputSpec
    from limbeck.knowledge import Batch as Batch
    from limbeck.knowledge import Knowledge as Knowledge
    from limbeck.methods.base import Method as Method
    from limbeck.methods.base import Probe as Probe
    from limbeck.objective import Objective as Objective
    from limbeck.objective import Ramp as Ramp
    from limbeck.objective import Steps as Steps
    from limbeck.objective import Term as Term
    from limbeck.recipe import Recipe as Recipe
    from limbeck.running import run as run
    from limbeck.schemes import Offline as Offline
    from limbeck.staging import Stage as Stage
    from limbeck.students.early import EarlyExit as EarlyExit
    from limbeck.taps import Tapped as Tapped
    from limbeck.teachers import Frozen as Frozen
    from limbeck.training import Averaging as Averaging
    from limbeck.training import Runtime as Runtime
    from limbeck.training import Trainer as Trainer
    from limbeck.training import Training as Training

_HOME = {
    "Averaging": "training",
    "Batch": "knowledge",
    "Distilled": "api",
    "EarlyExit": "students.early",
    "Frozen": "teachers",
    "InputAdapter": "inputs",
    "InputError": "errors",
    "InputSpec": "inputs",
    "Knowledge": "knowledge",
    "Method": "methods.base",
    "Objective": "objective",
    "Offline": "schemes",
    "Probe": "methods.base",
    "Ramp": "objective",
    "Stage": "staging",
    "Steps": "objective",
    "Recipe": "recipe",
    "Runtime": "training",
    "Tapped": "taps",
    "Term": "objective",
    "Trainer": "training",
    "Training": "training",
    "WorkError": "errors",
    "compare": "comparison",
    "distill": "api",
    "run": "running",
}

__all__ = [*sorted(_HOME), "__version__", "functional"]


def __getattr__(name: str) -> Any:
    if name == "functional":
        return import_module("limbeck.functional")
    if name not in _HOME:
        raise AttributeError(f"module 'limbeck' has no attribute '{name}'")
    value = getattr(import_module(f"limbeck.{_HOME[name]}"), name)
    # Kept: importing the module `run` has just put it in the place of the function of that name.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
