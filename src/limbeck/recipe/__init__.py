"""Recipes: YAML, checked and typed. `Recipe.load(path)` is the way in."""

from limbeck.recipe.cache import CacheSpec
from limbeck.recipe.data import DataSpec
from limbeck.recipe.network import InputSettings, Network
from limbeck.recipe.objective import RampSpec, StepsSpec, TermSpec
from limbeck.recipe.recipe import ControlSpec, ExportSpec, Recipe, SchemeSpec
from limbeck.recipe.schema import schema
from limbeck.recipe.stages import StageSpec
from limbeck.recipe.training import OptimizerSpec, ScheduleSpec, TrainSpec

__all__ = [
    "CacheSpec",
    "ControlSpec",
    "DataSpec",
    "ExportSpec",
    "InputSettings",
    "Network",
    "OptimizerSpec",
    "RampSpec",
    "Recipe",
    "ScheduleSpec",
    "SchemeSpec",
    "StageSpec",
    "StepsSpec",
    "TermSpec",
    "TrainSpec",
    "schema",
]
