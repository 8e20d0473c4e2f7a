"""What a student goes through before the objective itself."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from limbeck.errors import InputError
from limbeck.recipe.base import RUN_NAME, Part
from limbeck.recipe.objective import Terms
from limbeck.recipe.training import OptimizerSpec, ScheduleSpec

if TYPE_CHECKING:
    from limbeck.recipe.recipe import Recipe

__all__ = ["StageSpec", "Stages", "last_stage_as_objective", "with_first_stages"]


class StageSpec(Part):
    """Some epochs with terms of their own."""

    name: Annotated[str, Field(pattern=RUN_NAME)]
    """What it is called in figures and messages."""
    epochs: Annotated[int, Field(ge=1, le=10**6)]
    """Its passes over the training set; they are part of train.epochs where the student learns."""
    objective: Terms
    """Its terms. One that the recipe's objective has under the same name goes on there with its layers."""
    trains: Literal["student", "layers"] = "student"
    """student; or layers: those of its methods that are trained first, by the teacher alone."""
    optimizer: OptimizerSpec | None = None
    """Its own; null: the one of train."""
    schedule: ScheduleSpec | None = None
    """Its own, over its own epochs; null: the one of train, over all epochs of the student."""


Stages = Annotated[tuple[StageSpec, ...], Field(max_length=100, strict=False)]


def last_stage_as_objective(data: dict[str, Any], where: str) -> dict[str, Any]:
    """A recipe that is all stages, with the last of them as its objective.

    `train.epochs` may be left out then: it is the sum of the stages in which the student learns.

    Raises:
        InputError: the last stage says what only an earlier one can, or epochs that do not add up.
    """
    stages = data.get("stages")
    if "objective" in data or not isinstance(stages, list) or not stages:
        return data
    *earlier, last = stages
    if not isinstance(last, Mapping) or not all(isinstance(stage, Mapping) for stage in earlier):
        return data  # which is told elsewhere
    for key in last:
        if key not in ("name", "epochs", "objective"):
            raise InputError(
                f"{where}: stages: the last one stands for the objective, so it has no {key}; how it is "
                "trained stands under train."
            )
    result = {**data, "stages": earlier, "objective": last.get("objective")}
    counted = [stage.get("epochs") for stage in (*earlier, last) if stage.get("trains") != "layers"]
    train = data.get("train")
    if isinstance(train, Mapping) and all(type(n) is int for n in counted):
        total = sum(n for n in counted if n is not None)
        if train.get("epochs", total) != total:
            raise InputError(
                f"{where}: train.epochs: is {train['epochs']}, and the stages in which the student learns "
                f"take {total}; leave one of them out."
            )
        result["train"] = {**train, "epochs": total}
    return result


def with_first_stages(recipe: "Recipe", where: str) -> dict[str, Any] | None:
    """The recipe with the stages of its methods' papers written out; None where there are none to write.

    Raises:
        InputError: too few epochs, or no term is left for the objective itself.
    """
    from limbeck import methods  # imports torch, which reading and the schema do without
    from limbeck.staging import first_stages

    result: dict[str, Any] | None = None
    for keys, part in recipe.parts().items():
        if part.stages is not None:
            continue
        kinds = {
            name: methods.get(spec.method or name, beside=recipe.beside)
            for name, spec in part.objective.items()
            if not spec.silent
        }
        place = ".".join((*keys, "objective"))
        left, outlines = first_stages(f"{where}: {place}", kinds, recipe.epochs_of(keys))
        if not outlines:
            continue
        result = result or recipe.dump()
        target = result
        for key in keys:
            target = target[key]
        terms = target["objective"]
        target["stages"] = [
            {
                "name": re.sub(r"[^\w.-]", "-", outline.term),
                "epochs": outline.epochs,
                "trains": outline.trains,
                "objective": {outline.term: {**terms[outline.term], **_alone(outline.trains)}},
            }
            for outline in outlines
        ]
        target["objective"] = {n: t for n, t in terms.items() if n not in kinds or n in left}
    return result


def _alone(trains: str) -> dict[str, float]:
    """Layers are trained by one term: its weight would only change the learning rate."""
    return {"weight": 1.0} if trains == "layers" else {}
