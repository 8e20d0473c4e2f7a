"""Recipes: YAML, checked and typed. `Recipe.load(path)` is the way in."""

from limbeck.recipe.cache import CacheSpec
from limbeck.recipe.control import ControlSpec, of_control
from limbeck.recipe.data import DataSpec
from limbeck.recipe.linking import Link, links_of
from limbeck.recipe.links import GenerationsSpec, LinkSpec
from limbeck.recipe.network import InputSettings, Network
from limbeck.recipe.objective import RampSpec, StepsSpec, TermSpec
from limbeck.recipe.recipe import ExportSpec, Recipe, SchemeSpec
from limbeck.recipe.schema import schema
from limbeck.recipe.several import WeightingSpec
from limbeck.recipe.stages import StageSpec
from limbeck.recipe.training import OptimizerSpec, ScheduleSpec, TrainSpec

__all__ = [
    "CacheSpec",
    "ControlSpec",
    "DataSpec",
    "ExportSpec",
    "GenerationsSpec",
    "InputSettings",
    "Link",
    "LinkSpec",
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
    "WeightingSpec",
    "links_of",
    "of_control",
    "schema",
]
