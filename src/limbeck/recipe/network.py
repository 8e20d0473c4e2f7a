"""A network of a recipe: teacher or student."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from limbeck.recipe.base import LIST, RUN_NAME, WORD, Open, Part, kind_of
from limbeck.recipe.cache import CacheSpec
from limbeck.recipe.objective import Terms
from limbeck.recipe.training import TrainSpec

__all__ = ["TEACHERS_ALONE", "InputSettings", "Network"]

BLANK_MODELS = ("cifar", "timm", "torchvision")
"""Prefixes of models that come without weights unless the recipe says where these are."""

TEACHERS_ALONE = (
    "classes",
    "train",
    "objective",
    "label_noise",
    "name",
    "blank",
    "cache",
    "backend",
    "ahead",
)
"""Keys of a network that a student does not have."""

Channels = Annotated[tuple[float, ...], Field(min_length=1, max_length=1024, strict=False)]
Classes = Annotated[
    Annotated[Literal["auto"], Tag(WORD)]
    | Annotated[tuple[str | int, ...], Field(min_length=1, strict=False), Tag(LIST)],
    Discriminator(kind_of),
]


class InputSettings(Part):
    """What a network expects of an image; what is not given is the model's own default, where known."""

    mean: Channels | None = None
    """Mean of each channel, or one for all, for pixels in [0, 1]."""
    std: Channels | None = None
    """Standard deviation of each channel, or one for all, for pixels in [0, 1]; greater than 0."""
    size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Side in pixels to which images are resized for this network."""
    channels: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Channels that the network takes (1 grey, 3 colour)."""

    @field_validator("mean", "std", mode="before")
    @classmethod
    def _bare_number(cls, value: Any) -> Any:
        return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std must be greater than 0 in every channel")
        counts = {len(v) for v in (self.mean, self.std) if v is not None} - {1}
        if len(counts) > 1 or (self.channels is not None and counts - {self.channels}):
            wanted = self.channels or "as many numbers as there are channels"
            raise ValueError(f"mean and std must have one number, or {wanted}")
        return self


class Network(Open):
    """A model by name; keys that are not listed here are arguments of the model's constructor."""

    model: Annotated[str, Field(min_length=1)]
    """timm:NAME, torchvision:NAME, cifar:NAME, hf:OWNER/NAME, run:FOLDER or py:package.module:factory."""
    weights: Annotated[str, Field(min_length=1)] | None = None
    """A safetensors file or checkpoint: beside the recipe, under LIMBECK_DATA/weights, or in the cache."""
    pretrained: bool = False
    """Take the weights that the model's library publishes."""
    blank: bool | None = None
    """Teacher only: it may go without any weights; it then teaches noise, and a warning says so."""
    classes: Classes | None = None
    """Teacher only: which of its logits stand for the data's classes; auto, or names or indices in order."""
    input: InputSettings | None = None
    """Normalisation, size and channels of the network's input; null: the model's own."""
    head: Literal["teacher"] | None = None
    """Student only: teacher, the classifier is the teacher's, behind a projector (simple_projector)."""
    train: TrainSpec | None = None
    """Teacher only: train it first. What is not given is taken from the recipe's own train."""
    objective: Terms | None = None
    """Teacher only: the label terms it is trained with; null: cross_entropy."""
    label_noise: Annotated[float, Field(ge=0, le=1)] | None = None
    """Teacher only: share of the labels of its own training that are wrong ones, drawn by seed: to try out
    what a bad teacher does."""
    name: Annotated[str, Field(pattern=RUN_NAME)] | None = None
    """One of several teachers only: what it is called; by default teacher-1, teacher-2, and so on."""

    cache: CacheSpec | None = None
    """Teacher only: keep its answers and replay them: a number of views, {views, store, …}, auto, never."""

    backend: Literal["auto", "eager", "compile", "onnxruntime", "openvino", "int8"] | None = None
    """Teacher only: what runs it. auto: the fastest exact one, in a long run; int8 is faster, and drifts."""
    ahead: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Teacher only: batches that it is asked about at a time; null: one on a CPU, some on a GPU."""

    @property
    def untaught(self) -> bool:
        """Whether it comes without weights: a plain architecture, and none are named."""
        plain = self.model.partition(":")[0] in BLANK_MODELS
        return plain and self.weights is None and not self.pretrained and self.train is None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.weights is not None and self.pretrained:
            raise ValueError("give weights or pretrained: true, not both")
        if self.blank and (self.weights is not None or self.pretrained or self.train is not None):
            raise ValueError("blank: true is for a teacher without weights; this one has some")
        if self.label_noise is not None and self.train is None:
            raise ValueError("label_noise is for the teacher's own training: give train as well")
        if self.objective is not None and self.train is None:
            raise ValueError("objective is used only when the teacher is trained: give train as well")
        return self
