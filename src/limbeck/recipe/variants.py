"""Objectives that are compared with each other under one budget."""

from typing import Annotated

from pydantic import Field

from limbeck.recipe.base import RUN_NAME, Part
from limbeck.recipe.objective import Terms
from limbeck.recipe.stages import Stages

__all__ = ["VariantSpec", "Variants"]


class VariantSpec(Part):
    """What one of the compared students learns from; everything else is the recipe's."""

    objective: Terms
    """Its terms, in place of the recipe's."""
    stages: Stages | None = None
    """What comes before them, in place of the recipe's stages."""


Variants = Annotated[
    dict[Annotated[str, Field(pattern=RUN_NAME)], VariantSpec], Field(min_length=1, max_length=100)
]
