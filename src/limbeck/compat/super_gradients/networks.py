"""Networks by SuperGradients' names, and the adapters in front of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import models
from limbeck.errors import InputError, unknown

__all__ = ["NormalizationAdapter", "get", "named", "options_of"]


class NormalizationAdapter(nn.Module):
    """Turns images that were normalised for one network into what another expects.

        (x + (m_o - m_r)/s_o)·s_o/s_r,    for x = (pixel - m_o)/s_o

    Args:
        mean_original, std_original: of the normalisation that the images have, one value a channel.
        mean_required, std_required: of the one that the network wants.

    Raises:
        InputError: the numbers of channels differ, or a deviation is not above 0.
    """

    def __init__(
        self,
        mean_original: Sequence[float],
        std_original: Sequence[float],
        mean_required: Sequence[float],
        std_required: Sequence[float],
    ) -> None:
        super().__init__()
        given = {
            "mean_original": mean_original,
            "std_original": std_original,
            "mean_required": mean_required,
            "std_required": std_required,
        }
        if len({len(values) for values in given.values()}) != 1:
            told = ", ".join(f"{name} {len(values)}" for name, values in given.items())
            raise InputError(
                f"NormalizationAdapter: as many numbers in each as there are channels; given {told}."
            )
        for name in ("std_original", "std_required"):
            if min(given[name]) <= 0:
                raise InputError(f"NormalizationAdapter: {name} must be above 0 in every channel.")
        self.original = tuple(map(float, mean_original)), tuple(map(float, std_original))
        self.required = tuple(map(float, mean_required)), tuple(map(float, std_required))
        m_o, s_o, m_r, s_r = (torch.tensor(values).float().view(1, -1, 1, 1) for values in given.values())
        self.additive: Tensor
        self.multiplier: Tensor
        self.register_buffer("additive", (m_o - m_r) / s_o, persistent=False)
        self.register_buffer("multiplier", s_o / s_r, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] as the network wants them."""
        return (x + self.additive) * self.multiplier


def named(architecture: str, place: str) -> str:
    """The model of a recipe that an architecture's name means: timm's, torchvision's, or ours.

    Raises:
        InputError: none of them has it.
    """
    import timm
    import torchvision

    from limbeck.models.cifar import FACTORIES

    if ":" in architecture:
        return architecture
    if timm.is_model(architecture.split(".")[0]):
        return f"timm:{architecture}"
    own = sorted(torchvision.models.list_models(module=torchvision.models))
    if architecture in own:
        return f"torchvision:{architecture}"
    if architecture in FACTORIES:
        return f"cifar:{architecture}"
    raise unknown("architecture", architecture, [*timm.list_models(), *own, *FACTORIES], where=place)


def options_of(
    architecture: str, given: Mapping[str, Any] | None, place: str
) -> tuple[int | None, dict[str, Any]]:
    """The number of classes, and the options of the model, that `*_arch_params` come to.

    `image_size` and `patch_size` must be those that the architecture's name says: other sizes are other
    networks there, too.

    Raises:
        InputError: a value is out of range, or the architecture has another.
    """
    options = dict(given or {})
    classes = options.pop("num_classes", None)
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 2):
        raise InputError(f"{place}.num_classes: must be a whole number from 2 up, given {classes!r}.")
    image, patch = options.pop("image_size", None), options.pop("patch_size", None)
    name = architecture.split(".")[0]
    _same_side(f"{place}.patch_size", patch, re.search(r"patch(\d+)", name), name)
    _same_side(f"{place}.image_size", image, re.search(r"_(\d{3})(?!\d)", name), name)
    return classes, options


def _same_side(place: str, given: object, said: re.Match[str] | None, name: str) -> None:
    if given is None:
        return
    sides = [given] if isinstance(given, int) else list(given) if isinstance(given, list | tuple) else []
    if not sides or len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise InputError(f"{place}: must be one side, or two equal ones, given {given!r}.")
    if said is not None and int(said[1]) != sides[0]:
        raise InputError(
            f"{place}: {name} has {said[1]}, given {sides[0]}. Name the architecture with that size instead."
        )


def get(
    model_name: str,
    num_classes: int = 1000,
    arch_params: Mapping[str, Any] | None = None,
    *,
    pretrained_weights: str | None = None,
) -> nn.Module:
    """A network by name, as `super_gradients.training.models.get` gives one.

    Args:
        model_name: a name of timm's, torchvision's, or of the networks for small images.
        num_classes: number of logits.
        arch_params: options of its constructor.
        pretrained_weights: "imagenet": with the weights that timm or torchvision publish.

    Raises:
        InputError: no such network, or options or weights that it does not have.
        WorkError: the weights cannot be downloaded.
    """  # fmt: skip
    classes, options = options_of(model_name, arch_params, "arch_params")
    if pretrained_weights not in (None, "imagenet"):
        raise InputError(f'pretrained_weights: must be "imagenet" or None, given {pretrained_weights!r}.')
    return models.build(
        named(model_name, "model_name"),
        classes=classes or num_classes,
        channels=3,
        size=(224, 224),
        options=options,
        where="model_name",
        pretrained=pretrained_weights == "imagenet",
    ).model
