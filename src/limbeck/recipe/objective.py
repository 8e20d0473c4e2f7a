"""The terms of a recipe's objective."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from limbeck.recipe.base import (
    AUTO_LAYERS,
    MAPPING,
    METHOD_NAME,
    NUMBER,
    STEPS,
    TERM_NAME,
    WORD,
    Open,
    Part,
    kind_of,
)
from limbeck.weighting import Ramp, Steps

__all__ = ["RampSpec", "StepsSpec", "TermSpec", "Terms"]

NonNegative = Annotated[float, Field(ge=0)]


class RampSpec(Part):
    """A weight that goes from `start` to `end`, then stays there."""

    start: NonNegative
    """The weight at first."""
    end: NonNegative
    """The weight from epoch `epochs` on."""
    epochs: Annotated[float, Field(gt=0)]
    """How many epochs the way takes."""
    shape: Literal["linear", "cosine", "sigmoid"] = "linear"
    """linear: a straight line; cosine: slow at both ends; sigmoid: along exp(-5 (1 - x)^2)."""

    def built(self) -> Ramp:
        """What the objective takes."""
        return Ramp(self.start, self.end, self.epochs, self.shape)

    @property
    def most(self) -> float:
        """The largest weight of all times."""
        return max(self.start, self.end)


class StepsSpec(Part):
    """A weight that jumps."""

    steps: Annotated[dict[NonNegative, NonNegative], Field(min_length=1, max_length=1000)]
    """{epoch: weight}: the weight from that many epochs on."""

    @field_validator("steps", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        """The keys of a mapping arrive as text."""
        if not isinstance(value, dict):
            return value
        try:
            return {float(key): weight for key, weight in value.items()}
        except (TypeError, ValueError) as error:
            raise ValueError("steps must be {epoch: weight}, both numbers") from error

    def built(self) -> Steps:
        """What the objective takes."""
        return Steps(self.steps)

    @property
    def most(self) -> float:
        """The largest weight of all times."""
        return max(self.steps.values())


def _kind_of_weight(value: Any) -> str:
    steps = isinstance(value, StepsSpec) or (isinstance(value, dict) and "steps" in value)
    return STEPS if steps else kind_of(value)


Weight = Annotated[
    Annotated[NonNegative, Tag(NUMBER)]
    | Annotated[RampSpec, Tag(MAPPING)]
    | Annotated[StepsSpec, Tag(STEPS)],
    Discriminator(_kind_of_weight),
]
Layers = Annotated[
    Annotated[Annotated[str, Field(pattern=AUTO_LAYERS)], Tag(WORD)]
    | Annotated[dict[str, str], Field(min_length=1, max_length=1000), Tag(MAPPING)],
    Discriminator(kind_of),
]
MethodName = Annotated[str, Field(pattern=METHOD_NAME)]


class TermSpec(Open):
    """One term of the loss; a bare number is its weight. Keys not listed here are the method's options."""

    weight: Weight = 1.0
    """Factor of the term: a number, a ramp {start, end, epochs}, or {steps: {epoch: weight}}."""
    method: MethodName | None = None
    """The method, where the term has a name of its own: a name, an alias, or package.module:Class."""
    layers: Layers | None = None
    """Pairs {student layer: teacher layer} that a feature method compares; auto finds them. Of several
    teachers: NAME/layer, NAME/auto; without a name, the term is there once for each."""

    @model_validator(mode="before")
    @classmethod
    def _bare_number(cls, data: Any) -> Any:
        return {"weight": data} if kind_of(data) == NUMBER else data

    @field_validator("layers", mode="before")
    @classmethod
    def _numbered_layers(cls, value: Any) -> Any:
        """The modules of a Sequential are called by number, which YAML reads as numbers."""
        if not isinstance(value, dict):
            return value
        return {key: str(name) if type(name) is int else name for key, name in value.items()}

    @property
    def silent(self) -> bool:
        """True when the weight is 0 all the time."""
        return not (self.weight if isinstance(self.weight, int | float) else self.weight.most)

    @property
    def final(self) -> float:
        """The weight that the term ends with."""
        return self.weight if isinstance(self.weight, int | float) else self.weight.built().end


TermName = Annotated[str, Field(pattern=TERM_NAME)]
Terms = Annotated[dict[TermName, TermSpec], Field(min_length=1, max_length=100)]
