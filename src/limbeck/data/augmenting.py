"""Augmentation policies by timm's strings: RandAugment, AutoAugment, AugMix.

E. Cubuk, B. Zoph, J. Shlens, Q. Le, RandAugment: Practical Automated Data Augmentation with a Reduced Search
Space, NeurIPS 2020, https://arxiv.org/abs/1909.13719. `rand-m7-mstd0.5` is magnitude 7 with a standard
deviation of 0.5.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from limbeck.errors import InputError
from limbeck.inputs import IMAGENET_MEAN

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["augmentation"]

_PLACE = "data.views.rand_augment"
_KINDS = ("rand", "augmix", "original", "originalr", "v0", "v0r", "3a")
_LIKE = "must be one of timm's strings, such as rand-m7-mstd0.5, augmix-m5-w4-d2, original or v0"


def augmentation(text: str, size: int) -> "Callable[[Image], Image]":
    """What timm makes of such a string, for images of a size.

    It draws from Python's and NumPy's global generators, so it is called within `keyed`.

    Args:
        text: the policy.
        size: shorter side of the images, in pixels: shifts go up to 45 % of it.

    Raises:
        InputError: timm does not know such a policy.
    """
    if not isinstance(text, str) or text.split("-")[0] not in _KINDS:
        raise InputError(f"{_PLACE}: {_LIKE}; got {text!r}")
    from timm.data.auto_augment import (
        augment_and_mix_transform,
        auto_augment_transform,
        rand_augment_transform,
    )

    # What moves in from outside is filled with ImageNet's mean, as timm's own training does.
    settings: dict[str, Any] = {
        "translate_const": int(size * 0.45),
        "img_mean": tuple(round(255 * value) for value in IMAGENET_MEAN),
    }
    make = rand_augment_transform if text.startswith("rand") else auto_augment_transform
    if text.startswith("augmix"):
        settings = {"translate_pct": 0.3, "img_mean": settings["img_mean"]}
        make = augment_and_mix_transform
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: Callable[[Image], Image] = make(text, settings)
    except (AssertionError, ValueError, KeyError, IndexError, TypeError) as error:
        raise InputError(f"{_PLACE}: {_LIKE}; got {text!r} ({error})") from error
    return found
