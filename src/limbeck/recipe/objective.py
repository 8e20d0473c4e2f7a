"""The terms of a recipe's objective."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from limbeck.recipe.base import MAPPING, METHOD_NAME, NUMBER, TERM_NAME, WORD, Open, Part, kind_of

__all__ = ["RampSpec", "TermSpec", "Terms"]

NonNegative = Annotated[float, Field(ge=0)]


class RampSpec(Part):
    """A weight that goes in a straight line from `start` to `end`, then stays there."""

    start: NonNegative
    """The weight at first."""
    end: NonNegative
    """The weight from epoch `epochs` on."""
    epochs: Annotated[float, Field(gt=0)]
    """How many epochs the way takes."""


Weight = Annotated[
    Annotated[NonNegative, Tag(NUMBER)] | Annotated[RampSpec, Tag(MAPPING)], Discriminator(kind_of)
]
Layers = Annotated[
    Annotated[Literal["auto"], Tag(WORD)]
    | Annotated[dict[str, str], Field(min_length=1, max_length=1000), Tag(MAPPING)],
    Discriminator(kind_of),
]
MethodName = Annotated[str, Field(pattern=METHOD_NAME)]


class TermSpec(Open):
    """One term of the loss; a bare number is its weight. Keys not listed here are the method's options."""

    weight: Weight = 1.0
    """Factor of the term: a number, or {start, end, epochs} for one that changes over the epochs."""
    method: MethodName | None = None
    """The method, where the term has a name of its own: a name, an alias, or package.module:Class."""
    layers: Layers | None = None
    """Pairs {student layer: teacher layer} that a feature method compares. (auto is not supported yet.)"""

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
        return not (
            max(self.weight.start, self.weight.end) if isinstance(self.weight, RampSpec) else self.weight
        )


TermName = Annotated[str, Field(pattern=TERM_NAME)]
Terms = Annotated[dict[TermName, TermSpec], Field(min_length=1, max_length=100)]
