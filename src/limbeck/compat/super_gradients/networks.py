"""Networks by SuperGradients' names, and the adapters in front of them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import InputError, unknown

__all__ = ["NormalizationAdapter", "named", "network"]


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
        for name, values in given.items():
            if not _numbers(values):
                raise InputError(
                    f"NormalizationAdapter: {name} must hold one number a channel, given {values!r}."
                )
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


def _numbers(values: object) -> bool:
    """Whether these are numbers in a row."""
    try:
        row = torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        return False
    return row.ndim == 1 and len(row) > 0 and bool(row.isfinite().all())


def named(architecture: str, place: str) -> str:
    """The model of a recipe that an architecture's name means: timm's, torchvision's, or ours.

    Raises:
        InputError: none of them has it, or it is no name.
    """
    import timm
    import torchvision

    from limbeck.models.cifar import FACTORIES

    if not isinstance(architecture, str):
        raise InputError(
            f"{place}: must be a name, given {type(architecture).__name__}; networks as objects are trained "
            "by KDTrainer, or by limbeck.distill."
        )
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


def network(architecture: str, given: Mapping[str, Any] | None, *, where: str, params: str) -> dict[str, Any]:
    """The entry of a recipe that an architecture and its `*_arch_params` come to.

    `image_size` of a network that takes images of one size only, and `patch_size` where the name says it,
    must agree with the architecture: other sizes are other networks there, too. Any other network sees its
    images at that size.

    Args:
        architecture: a name of timm's, torchvision's, or ours, or a model as recipes write it.
        given: num_classes, image_size, patch_size, and options of the network's constructor.
        where: how messages name the architecture.
        params: how they name `given`.

    Raises:
        InputError: a value is out of range, or the architecture has another.
    """
    model = named(architecture, where)
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"{params}: must be a mapping, given {type(given).__name__}.")
    options = dict(given or {})
    classes = options.get("num_classes")
    if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 2):
        raise InputError(f"{params}.num_classes: must be a whole number from 2 up, given {classes!r}.")
    found: dict[str, Any] = {"model": model}
    image = _side(f"{params}.image_size", options.pop("image_size", None))
    patch = _side(f"{params}.patch_size", options.pop("patch_size", None))
    name = model.partition(":")[2]
    fixed = _only_side(model)
    if image is not None and fixed is not None:
        _same(f"{params}.image_size", image, fixed, name)
    elif image is not None and model.startswith("torchvision:vit_"):
        options["image_size"] = image
    elif image is not None:
        found["input"] = {"size": image}
    said = re.search(r"patch(\d+)", name)
    if patch is not None and said is not None:
        _same(f"{params}.patch_size", patch, int(said[1]), name)
    elif patch is not None:
        options["patch_size"] = patch
    return {**found, "options": options}


def _side(place: str, given: object) -> int | None:
    """One side of a square that is given as a number or as two equal ones."""
    if given is None:
        return None
    sides = [given] if isinstance(given, int) else list(given) if isinstance(given, list | tuple) else []
    if not sides or len(set(sides)) != 1 or type(sides[0]) is not int or sides[0] < 1:
        raise InputError(f"{place}: must be one side in pixels, or two equal ones, given {given!r}.")
    return sides[0]


def _only_side(model: str) -> int | None:
    """The side of the images that a network of timm's takes, where it takes no other."""
    prefix, _, name = model.partition(":")
    if prefix != "timm":
        return None
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name, allow_unregistered=True)
    return int(config.input_size[-1]) if config is not None and config.fixed_input_size else None


def _same(place: str, given: int, own: int, name: str) -> None:
    if given != own:
        raise InputError(
            f"{place}: {name} has {own}, given {given}. Name the architecture with that size instead."
        )
