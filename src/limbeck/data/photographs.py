"""Views of photographs, by torchvision and timm: what augmentation makes of one image in one pass.

Training, in timm's order: a random part of the image, resized; mirrored; RandAugment; erased in part.
Evaluation: the shorter side resized, then the centre.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from limbeck.data.augmenting import augmentation
from limbeck.data.erasing import Erasing
from limbeck.data.options import Options, check_bool, check_choice, check_count
from limbeck.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ImageViews"]


@dataclass(frozen=True)
class ImageViews(Options):
    """The usual views of photographs.

    Attributes:
        size: side of the square that comes out, in pixels.
        scale: least and greatest share of the image's area that a random part covers, in (0, 1].
        flip: half of the training views are mirrored left to right.
        resize: shorter side before the centre is cut out; None means 256/224 of `size`.
        interpolation: of training views `bilinear`, `bicubic`, or `random`: one of these two for each view.
            Evaluation takes bicubic where it is named, else bilinear.
        rand_augment: RandAugment and its kin by timm's string, such as `rand-m7-mstd0.5`; None: none.
        erase: rectangles that are wiped out, as `Erasing` takes it: {probability, value, area}, or a bare
            probability; None: none.

    Raises:
        InputError: a value is not possible; names the recipe's key.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)
    flip: bool = True
    resize: int | None = None
    interpolation: Literal["bilinear", "bicubic", "random"] = "bilinear"
    rand_augment: str | None = None
    erase: float | Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_count("data.views.size", self.size, 1)
        check_bool("data.views.flip", self.flip)
        if self.resize is not None:
            check_count("data.views.resize", self.resize, self.size)
        check_choice("data.views.interpolation", self.interpolation, ("bilinear", "bicubic", "random"))
        if self.rand_augment is not None:
            self._policy()  # for what it has to say against it
        scale = self.scale
        fits = isinstance(scale, list | tuple) and len(scale) == 2
        numbers = fits and all(isinstance(s, int | float) and not isinstance(s, bool) for s in scale)
        if not numbers or not 0 < scale[0] <= scale[1] <= 1:
            raise InputError(
                "data.views.scale: must be two shares of the area, least and greatest, in (0, 1], "
                f"got {scale!r}"
            )
        _ = self.erasing

    @cached_property
    def erasing(self) -> Erasing | None:
        """What is erased of the finished views; None: nothing."""
        return Erasing.given(self.erase)

    def _policy(self) -> "Callable[[Image], Image]":
        return augmentation(str(self.rand_augment), self.size, interpolation=self.interpolation)

    @cached_property
    def train(self) -> "Callable[[Image], Tensor]":
        """The random view of an image, to a byte tensor [C, size, size]; nothing is erased yet."""
        from torchvision.transforms import InterpolationMode, v2

        names = ("bilinear", "bicubic") if self.interpolation == "random" else (self.interpolation,)
        parts = [
            v2.RandomResizedCrop(
                self.size, scale=tuple(self.scale), interpolation=InterpolationMode(name), antialias=True
            )
            for name in names
        ]
        part = parts[0] if len(parts) == 1 else v2.RandomChoice(parts)
        mirror = [v2.RandomHorizontalFlip()] if self.flip else []
        changed = [self._policy()] if self.rand_augment is not None else []
        return v2.Compose([part, *mirror, *changed, v2.PILToTensor()])  # type: ignore[no-any-return]  # untyped

    @cached_property
    def test(self) -> "Callable[[Image], Tensor]":
        """The view of an image for evaluation, to a byte tensor [C, size, size]."""
        from torchvision.transforms import InterpolationMode, v2

        resize = self.resize or round(self.size * 256 / 224)
        mode = InterpolationMode("bicubic" if self.interpolation == "bicubic" else "bilinear")
        shorter = v2.Resize(resize, interpolation=mode, antialias=True)
        steps = [shorter, v2.CenterCrop(self.size), v2.PILToTensor()]
        return v2.Compose(steps)  # type: ignore[no-any-return]  # v2 has no types
