"""Augmentation policies by timm's strings: RandAugment, AutoAugment, AugMix.

E. Cubuk, B. Zoph, J. Shlens, Q. Le, RandAugment: Practical Automated Data Augmentation with a Reduced Search
Space, NeurIPS 2020, https://arxiv.org/abs/1909.13719. `rand-m7-mstd0.5` is magnitude 7 with a standard
deviation of 0.5.

timm passes over a part of such a string that it cannot read, and takes another set of operations for one that
it does not know. So the parts are read here first.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from limbeck.errors import InputError, nearest
from limbeck.inputs import IMAGENET_MEAN, per_channel

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["augmentation"]

_PLACE = "data.views.rand_augment"
_LIKE = "must be one of timm's strings, such as rand-m7-mstd0.5, augmix-m5-w4-d2, original or v0"

_SPREAD = {"mstd": r"\d+(\.\d+)?"}
_POLICY = (_SPREAD, "mstd0.5 (deviation of the magnitude)")
# Of a weighted set, operations are drawn without replacement: at most the 14 of the smaller set.
_PARTS: Mapping[str, tuple[Mapping[str, str], str]] = {
    "rand": (
        {
            **_SPREAD,
            "m": r"\d+",
            "n": r"[1-9]|1[0-4]",
            "p": r"0\.\d+|1(\.0+)?",
            "mmax": r"[1-9]\d*",
            "inc": r"[01]",
            "t": r"weights|3aw?",
        },
        "m7 (magnitude), n2 (operations), p0.5 (probability of each), mstd0.5 (deviation of the magnitude), "
        "mmax10 (its limit), inc1 (stronger with the magnitude), tweights, t3a or t3aw (sets of operations)",
    ),
    "augmix": (
        {
            **_SPREAD,
            "m": r"\d+",
            "w": r"[1-9]\d?",
            "d": r"[1-9]\d?",
            "a": r"(?!0+(\.0+)?$)\d+(\.\d+)?",
            "b": r"[01]",
        },
        "m3 (magnitude), w3 (chains), d2 (their length), a1 (of the Beta and Dirichlet distributions), "
        "b1 (blended one by one), mstd0.5 (deviation of the magnitude)",
    ),
    "original": _POLICY,
    "originalr": _POLICY,
    "v0": _POLICY,
    "v0r": _POLICY,
    "3a": _POLICY,
}


def augmentation(
    text: str, size: int, *, channels: int = 3, interpolation: str = "random"
) -> "Callable[[Image], Image]":
    """What timm makes of such a string, with the settings of its own training.

    It draws from Python's and NumPy's global generators, so it is called within `keyed` or `restored`.

    Args:
        text: the policy.
        size: shorter side of the images, in pixels: shifts go up to 45 % of it.
        channels: 1 for grey images, 3 for colour. What moves in from outside has ImageNet's mean.
        interpolation: of what is turned and sheared: bilinear, bicubic, or random, one of these each time.

    Raises:
        InputError: timm does not know such a policy.
    """
    _check(text)
    from timm.data.auto_augment import (
        augment_and_mix_transform,
        auto_augment_transform,
        rand_augment_transform,
    )
    from timm.data.transforms import str_to_pil_interp

    mean = tuple(round(255 * value) for value in per_channel(IMAGENET_MEAN, channels))
    settings: dict[str, Any] = {
        "translate_const": int(size * 0.45),
        "img_mean": mean[0] if channels == 1 else mean,
    }
    if interpolation != "random":
        settings["interpolation"] = str_to_pil_interp(interpolation)
    make = rand_augment_transform if text.startswith("rand") else auto_augment_transform
    if text.startswith("augmix"):
        settings["translate_pct"] = 0.3
        make = augment_and_mix_transform
    found: Callable[[Image], Image] = make(text, settings)
    return found


def _check(text: object) -> None:
    """Refuse a string that timm would not take, or not take as it stands."""
    kind, *parts = text.split("-") if isinstance(text, str) else ("",)
    if kind not in _PARTS:
        raise InputError(f"{_PLACE}: {_LIKE}; got {text!r}.{nearest(kind, _PARTS)}")
    patterns, said = _PARTS[kind]
    seen = set()
    for part in parts:
        name = next((n for n, pattern in patterns.items() if re.fullmatch(f"{n}({pattern})", part)), None)
        if name is None:
            raise InputError(f'{_PLACE}: {_LIKE}; "{part}" is no part of {kind}, in {text!r}. Parts: {said}.')
        if name in seen:
            raise InputError(f'{_PLACE}: {_LIKE}; "{name}" is there twice, in {text!r}.')
        seen.add(name)
