"""The data of a recipe."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from limbeck.recipe.base import Part

__all__ = ["DataSpec", "MixSpec"]

Count = Annotated[int, Field(ge=1, le=10**9)]


class MixSpec(Part):
    """Mixing the samples of a batch, as teacher and student see it; the shares of the labels follow."""

    mixup: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Parameter of mixup's Beta distribution (0.2 is usual); 0: no mixup."""
    cutmix: Annotated[float, Field(ge=0, le=1000)] = 0.0
    """Parameter of cutmix's Beta distribution (1.0 is usual); 0: no cutmix."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Probability that anything is mixed."""
    switch: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Probability that it is cutmix, where both are on."""
    mode: Literal["batch", "pair", "elem"] = "batch"
    """Whether a batch, each two partners, or each sample has a mix of its own."""

    @model_validator(mode="after")
    def _something_is_on(self) -> Self:
        if not self.mixup and not self.cutmix:
            raise ValueError("one of mixup and cutmix must be above 0 (usual: mixup 0.2, cutmix 1.0)")
        return self


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
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often each sample comes in a row, each time varied anew (repeated augmentation)."""
    mix: MixSpec | None = None
    """How the samples of a batch are mixed: {mixup, cutmix, probability, switch, mode}; null: not at all."""
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
