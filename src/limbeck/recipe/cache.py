"""A teacher's answers, asked once and replayed: the `cache` of a recipe's teacher."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe.base import Part

__all__ = ["CacheSpec"]


class CacheSpec(Part):
    """How a teacher's answers are kept. A bare number is `views`, a word `when`, a path `folder`."""

    when: Literal["always", "auto", "never"] = "always"
    """always: made where it is missing; auto: where it saves work and changes no loss; never."""
    views: Annotated[int, Field(ge=1, le=10**6)] | None = None
    """Views of each sample; pass v of the training then sees view v modulo this. null: one for each epoch."""
    store: Literal["auto", "fp16", "fp32", "topk", "sample"] = "auto"
    """fp16, fp32, topk (largest logits and the mass of the rest), sample. auto: by the number of classes."""
    top_k: Annotated[int, Field(ge=1, le=10**6)] = 100
    """topk: how many logits are kept."""
    draws: Annotated[int, Field(ge=1, le=255)] = 64
    """sample: how many classes are drawn from the teacher's answer."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """topk and sample: at which the mass is kept; null: that of the objective's terms."""
    features: bool = False
    """Keep the layers that the objective reads as well; they take far more room."""
    folder: Annotated[str, Field(min_length=1)] | None = None
    """Where it lies; null: below LIMBECK_CACHE, under a name made from all that the answers depend on."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.when != "always" and self.model_dump(exclude={"when"}, exclude_defaults=True):
            raise ValueError(f"when: {self.when} goes with no other key; leave `when` out to say how")
        return self
