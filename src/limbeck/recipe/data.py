"""The data of a recipe."""

from typing import Annotated, Any

from pydantic import Field

from limbeck.recipe.base import Part

__all__ = ["DataSpec"]

Count = Annotated[int, Field(ge=1, le=10**9)]


class DataSpec(Part):
    """Where the samples come from and how they are seen."""

    source: Annotated[str, Field(min_length=1)]
    """cifar10, cifar100, fashion_mnist, digits, folder:PATH, or py:package.module:factory."""
    root: str | None = None
    """The folder that holds the data; null: where LIMBECK_DATA points, then the cache folder."""
    batch_size: Count = 128
    """Samples in one optimiser step, over all processes and accumulated parts."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the training set that is split off by seed, for choosing."""
    views: dict[str, Any] | None = None
    """How training samples are varied, such as {crop: 4, flip: true}; null: the source's own way."""
    labels: Count | None = None
    """How many training samples keep their label (balanced over classes); null: all."""
    samples: Count | None = None
    """How many training samples are used (balanced over classes); null: all."""
    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side of the images in pixels, for sources whose images differ in size."""
    eval_batch_size: Count = 500
    """Samples in one batch of an evaluation."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of a py: factory."""
