"""What the builders of networks share: the request, the answer, and calling a constructor by its options."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.errors import InputError, unknown
from limbeck.inputs import InputSpec

__all__ = [
    "Built",
    "Request",
    "call",
    "check_kinds",
    "constructor_options",
    "fill",
    "on_meta",
    "unexpected_option",
]

CLASSES = ("num_classes", "classes", "n_classes")
CHANNELS = ("in_chans", "in_channels", "channels")
SIZES = ("size", "image_size", "img_size", "input_size")


@dataclass(frozen=True, slots=True)
class Built:
    """A network, what it expects as its input, and the name it was built by."""

    model: nn.Module
    input: InputSpec
    name: str


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `limbeck.models.build`, `name` without its prefix."""

    name: str
    classes: int
    channels: int
    size: tuple[int, int]
    options: dict[str, object]
    where: str
    beside: Path | None
    pretrained: bool
    build: Callable[..., Built]
    """`limbeck.models.build` itself, for the builder whose network is named by a finished run."""

    def refuse_pretrained(self, prefix: str) -> None:
        """For networks that nobody offers weights for.

        Raises:
            InputError: pretrained weights were asked for.
        """
        if self.pretrained:
            raise InputError(
                f'{self.where}.pretrained: there are none to download for "{prefix}:{self.name}". '
                "Name a file by `weights:` instead. Allowed here: false."
            )


def fill(request: Request, factory: Callable[..., object]) -> dict[str, object]:
    """The options, completed by what the data decide.

    The number of classes goes to a parameter called `num_classes` or `classes`, that of channels to
    `in_chans`, `in_channels` or `channels`, where their defaults are whole numbers or absent. Height and
    width go to `size`, `image_size` or `img_size`, only where these have no default. The recipe's options
    always win.
    """
    declared = inspect.signature(factory).parameters
    options = dict(request.options)
    for names, value, always in (
        (CLASSES, request.classes, True),
        (CHANNELS, request.channels, True),
        (SIZES, request.size, False),
    ):
        for name in names:
            if name in declared and name not in options:
                default = declared[name].default
                required = default is inspect.Parameter.empty
                if required or (always and isinstance(default, int) and not isinstance(default, bool)):
                    options[name] = value
    return options


def call(factory: Callable[..., Any], options: Mapping[str, object], *, where: str, name: str) -> Any:
    """`factory(**options)`, every mistake in the options told as one clear message.

    Raises:
        InputError: an option that the signature does not hold (with the nearest one), one that it requires
            and nobody gave, one of the wrong kind, or the factory raises anything.
    """
    signature = inspect.signature(factory)
    declared = signature.parameters
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in declared.values())
    named = {
        key: p
        for key, p in declared.items()
        if p.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    for key in options:
        if key not in named and not takes_any:
            raise unknown("option", key, named, where)
    lacking = [k for k, p in named.items() if p.default is inspect.Parameter.empty and k not in options]
    if lacking:
        raise InputError(f"{where}: {name} requires {', '.join(lacking)}, which the recipe does not give.")
    check_kinds(signature, options, where)
    try:
        return factory(**options)
    except InputError:
        raise
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items()) or "no options"
        raise InputError(f"{where}: {name}({given}) failed: {type(error).__name__}: {error}") from error


def check_kinds(signature: inspect.Signature, options: Mapping[str, object], where: str) -> None:
    """Refuse what a constructor would choke on only much later: text for a number, a number for a switch.

    Raises:
        InputError: an option is of another kind than the default in the signature.
    """
    for key, value in options.items():
        parameter = signature.parameters.get(key)
        default = None if parameter is None else parameter.default
        if value is None:
            continue
        if isinstance(default, bool):
            fits, kind = isinstance(value, bool), "true or false"
        elif isinstance(default, int | float):
            fits, kind = not isinstance(value, bool | str), "a number"
        elif isinstance(default, str):
            fits, kind = not isinstance(value, bool | int | float), "text"
        else:
            continue
        if not fits:
            raise InputError(f"{where}.{key}: must be {kind} (the default is {default!r}), got {value!r}.")


def unexpected_option(error: Exception, options: Mapping[str, object]) -> str | None:
    """The option that a `TypeError` calls unexpected; None where the error is about something else."""
    text = str(error)
    if not isinstance(error, TypeError) or "unexpected keyword argument" not in text:
        return None
    return next((key for key in options if f"'{key}'" in text), None)


def on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its weights: enough to ask for its class."""
    with torch.device("meta"):
        return make()


def constructor_options(model: nn.Module) -> list[str]:
    """What the constructor of this network's class takes by keyword."""
    declared = inspect.signature(type(model).__init__).parameters.values()
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [p.name for p in declared if p.name != "self" and p.kind not in variable]
