"""The control of a recipe: what the student's gain is measured against."""

from typing import TYPE_CHECKING

from limbeck.errors import InputError
from limbeck.recipe.base import Part
from limbeck.recipe.network import Network
from limbeck.recipe.objective import Terms
from limbeck.recipe.stages import Stages
from limbeck.recipe.training import TrainSpec
from limbeck.recipe.variants import VariantSpec

if TYPE_CHECKING:
    from limbeck.recipe.recipe import Recipe

__all__ = ["ControlSpec", "check_own_teacher", "of_control"]


class ControlSpec(Part):
    """How the control differs from the student, beyond having no teacher (or another one)."""

    teacher: Network | None = None
    """A teacher of its own, where two ways to teach are compared; null: the control has none."""
    objective: Terms | None = None
    """Its terms. null: the label terms of the objective, rescaled to a total weight of 1; or, with a teacher,
    the objective as it is."""
    stages: Stages | None = None
    """With a teacher: what comes before its objective; null: what its methods' papers say."""
    train: TrainSpec | None = None
    """Its training. What is not given is taken from the recipe's own train."""

    @property
    def taught(self) -> VariantSpec | None:
        """What a control with a teacher of its own learns from; None: it has no teacher."""
        if self.teacher is None or self.objective is None:
            return None
        return VariantSpec.model_construct(objective=self.objective, stages=self.stages)


def check_own_teacher(recipe: "Recipe", where: str) -> None:
    """Check what a control with a teacher of its own cannot do.

    Raises:
        InputError: the place and what to do about it.
    """
    own = recipe.control
    if not isinstance(own, ControlSpec):
        return
    if own.teacher is None:
        if own.stages is not None:
            raise InputError(
                f"{where}: control.stages: are for a control with a teacher (control.teacher); this one "
                "learns from its objective alone."
            )
        return
    if own.teacher.train is not None:
        raise InputError(
            f"{where}: control.teacher.train: a control's teacher is not trained here. Train it by a recipe "
            'of its own, and give model: "run:FOLDER", or its weights.'
        )
    views = [
        None if one is None or one.cache is None else one.cache.views
        for one in (recipe.sole_teacher, own.teacher)
    ]
    if views[0] != views[1]:
        raise InputError(
            f"{where}: control.teacher.cache.views: decides which views of the samples the control sees, so "
            f"it must be that of teacher.cache ({views[0] or 'none'}), given {views[1] or 'none'}."
        )


def of_control(recipe: "Recipe") -> "Recipe | None":
    """The recipe with the control's own teacher as its teacher; None where no control has one."""
    own = recipe.control
    if not recipe.has_control or not isinstance(own, ControlSpec) or own.teacher is None:
        return None
    return recipe.model_copy(
        update={"teacher": own.teacher, "weighting": None, "train": own.train or recipe.train}
    )
