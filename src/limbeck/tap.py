"""How a tap is written, and what it makes of a value: `Tap`.

A tap is written `path[@call][:in][:form]`:

- `layer3.0.conv2`: the output of that module;
- `layer3.0.conv2:in`: its (first) input;
- `encoder:1`: item 1 of an output that is a tuple or list;
- `bn1:copy`: a copy of the output, for layers whose output a later operation changes in place;
- `relu:in:copy`: a copy of the input, for layers that work in place;
- `blocks.11:map`: tokens [B, L, D] as the map [B, D, √L, √L] that they are patches of; leading tokens that
  are no patches (class, registers) are left out. Of [B, H, W, D] it is the map [B, D, H, W];
- `relu@2`: the second call, where one module runs several times in a forward pass.

The empty path is the network itself.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limbeck.errors import InputError

__all__ = ["Tap"]

_GRAMMAR = re.compile(
    r"(?P<path>[\w.-]*)(?:@(?P<call>[1-9]\d*))?(?P<entering>:in)?(?::(?P<form>copy|map|\d+))?"
)


@dataclass(frozen=True, slots=True)
class Tap:
    """Where to read.

    Attributes:
        text: as it was written.
        path: the module.
        call: which of its calls; None: it is called once.
        entering: its first input, and not its output.
        form: "whole", "copy", "map", or the number of an item.
    """

    text: str
    path: str
    call: int | None
    entering: bool
    form: str

    @classmethod
    def parse(cls, text: str) -> "Tap":
        """Read a tap as a recipe writes it.

        Raises:
            InputError: the text is not `path[@call][:in][:copy|:map|:ITEM]`.
        """
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise InputError(
                f'tap "{text}" is not of the form path[@call][:in][:copy|:map|:ITEM], for example '
                '"layer3", "layer3:in", "encoder:1", "relu@2".'
            )
        call = int(match["call"]) if match["call"] else None
        return cls(text, match["path"], call, match["entering"] is not None, match["form"] or "whole")

    @property
    def source(self) -> str:
        """The tap without its form."""
        return self.text.rpartition(":")[0]

    @property
    def gives(self) -> str:
        """What the layer does with the value, in a message."""
        return "is given" if self.entering else "gives"

    def formed(self, who: str, value: Any) -> Any:
        """The value as the tap wants it.

        Raises:
            InputError: it cannot be had in this form; `who` is the network, for the message.
        """
        if self.form.isdigit():
            return _item(who, self, value)
        if self.form == "copy" and isinstance(value, Tensor):
            return value.clone()
        return _patches(who, self, value) if self.form == "map" else value


def _item(who: str, tap: Tap, value: Any) -> Any:
    """Item of an output that is a tuple or list, or can be read by number like one."""
    if isinstance(value, Tensor):  # whose items are samples
        raise InputError(
            f'{who}: layer "{tap.path}" {tap.gives} a tensor, so there is no item to choose; tap '
            f'"{tap.source}".'
        )
    try:
        return value[int(tap.form)]
    except (LookupError, TypeError) as error:
        length = f" of {len(value)} items" if isinstance(value, tuple | list) else ""
        raise InputError(
            f'{who}: tap "{tap.text}" finds no item {tap.form}: the layer {tap.gives} a '
            f"{type(value).__name__}{length} (counted from 0)."
        ) from error


MOST_OTHER_TOKENS = 8
"""More tokens than this before the patches, and the patches are no square."""


def _patches(who: str, tap: Tap, value: Any) -> Tensor:
    """Tokens as a map; a class token and registers stand before the patches."""
    if not isinstance(value, Tensor) or value.ndim not in (3, 4):
        given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f'{who}: tap "{tap.text}" makes a map of tokens [B, L, D] or [B, H, W, D], and the layer '
            f'{tap.gives} {given}; tap "{tap.source}".'
        )
    if value.ndim == 4:
        return value.permute(0, 3, 1, 2)
    side = math.isqrt(value.shape[1])
    others = value.shape[1] - side * side
    if others > MOST_OTHER_TOKENS:
        raise InputError(
            f'{who}: tap "{tap.text}": {value.shape[1]} tokens are no square of patches, with or without '
            f'a few others before them; tap "{tap.source}" for the tokens as they are.'
        )
    batch, _, width = value.shape
    return value[:, others:].transpose(1, 2).reshape(batch, width, side, side)
