"""Reading inner layers of a network without rewriting it: `Tapped`.

A tap is written `path[@call][:what]`:

- `layer3.0.conv2`: the output of that module;
- `layer3.0.conv2:in`: its (first) input;
- `encoder:1`: item 1 of an output that is a tuple or list;
- `bn1:copy`: a copy of the output, for layers whose output a later operation changes in place;
- `relu@2`: the second call, where one module runs several times in a forward pass.

The empty path is the network itself.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.errors import InputError, nearest
from limbeck.knowledge import Knowledge

__all__ = ["Tap", "Tapped"]

_GRAMMAR = re.compile(r"(?P<path>[\w.]*)(?:@(?P<call>[1-9]\d*))?(?::(?P<what>in|copy|\d+))?")


@dataclass(frozen=True, slots=True)
class Tap:
    """Where to read: a module's path, which of its calls (None: it is called once), and what of it."""

    text: str
    path: str
    call: int | None
    what: str

    @classmethod
    def parse(cls, text: str) -> "Tap":
        """Read a tap as a recipe writes it.

        Raises:
            InputError: the text is not `path[@call][:in|:copy|:ITEM]`.
        """
        match = _GRAMMAR.fullmatch(text)
        if match is None:
            raise InputError(
                f'tap "{text}" is not of the form path[@call][:in|:copy|:ITEM], for example '
                '"layer3", "layer3:in", "encoder:1", "relu@2".'
            )
        call = match["call"]
        return cls(text, match["path"], int(call) if call else None, match["what"] or "out")


class _Reader:
    """The hook of one module: notes what each tap on it wants, in a list shared with `Tapped`.

    A class and not a closure, so that a deep copy of the network reads into the copy's own list.
    """

    def __init__(self, wanted: list[tuple[int, Tap]], seen: list[list[Any]]) -> None:
        self.wanted = wanted
        self.seen = seen

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        for position, tap in self.wanted:
            value = args[0] if tap.what == "in" else output
            if tap.what.isdigit():
                value = output[int(tap.what)]
            self.seen[position].append(value.clone() if tap.what == "copy" else value)


class _Versions:
    """The hook that notes the version counter of what was read, to notice in-place changes; eager only."""

    def __init__(
        self, wanted: list[tuple[int, Tap]], seen: list[list[Any]], versions: list[list[int]]
    ) -> None:
        self.wanted = wanted
        self.seen = seen
        self.versions = versions

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        for position, _ in self.wanted:
            self.versions[position].append(_version(self.seen[position][-1]))


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


class Tapped(nn.Module):
    """A network with an input adapter in front and some inner layers read.

    Args:
        model: the plain network; it answers logits [B, C].
        taps: what to read, in the order of `Knowledge.features`.
        adapter: turns the batch's input into what the network expects (normalisation, size); optional.
        who: how error messages call this network ("student", "teacher").

    Raises:
        InputError: no such layer (with the nearest name), or the network is compiled already: hooks set
            after compiling never fire.
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Sequence[str] = (),
        adapter: nn.Module | None = None,
        who: str = "network",
    ) -> None:
        super().__init__()
        self.model = model
        self.adapter = adapter if adapter is not None else nn.Identity()
        self.who = who
        self.taps = tuple(Tap.parse(t) for t in taps)
        self._seen: list[list[Any]] = [[] for _ in self.taps]
        self._versions: list[list[int]] = [[] for _ in self.taps]
        self._handles: list[RemovableHandle] = []
        if self.taps:
            self._attach()

    def _attach(self) -> None:
        compiled = any(getattr(m, "_compiled_call_impl", None) is not None for m in self.model.modules())
        if compiled or hasattr(self.model, "_orig_mod"):
            raise InputError(
                f"{self.who}: the network is compiled already, and a tap attached after compiling never "
                "fires. Give the plain network; compile with `train.compile: true`, or after tapping."
            )
        modules = dict(self.model.named_modules())
        by_path: dict[str, list[tuple[int, Tap]]] = {}
        for position, tap in enumerate(self.taps):
            if tap.path not in modules:
                raise InputError(_no_such_layer(self.who, tap.path, modules))
            by_path.setdefault(tap.path, []).append((position, tap))
        for path, wanted in by_path.items():
            module = modules[path]
            self._handles.append(module.register_forward_hook(_Reader(wanted, self._seen)))
            self._handles.append(module.register_forward_hook(_Versions(wanted, self._seen, self._versions)))

    @property
    def tapped_modules(self) -> tuple[nn.Module, ...]:
        """The modules that are read, in the order of the features."""
        return tuple(self.model.get_submodule(t.path) for t in self.taps)

    def forward(self, input: Tensor | dict[str, Tensor]) -> Knowledge:
        """The network's answer: logits [B, C] and the tapped features."""
        for seen, versions in zip(self._seen, self._versions, strict=True):
            seen.clear()
            versions.clear()
        logits = self.model(self.adapter(input))
        return Knowledge(logits, tuple(self._read(i) for i in range(len(self.taps))))

    def _read(self, position: int) -> Tensor:
        tap, seen = self.taps[position], self._seen[position]
        if not seen:
            raise InputError(
                f'{self.who}: layer "{tap.path}" exists but no forward pass reaches it; '
                "tap a layer that is used."
            )
        if tap.call is None and len(seen) > 1:
            raise InputError(
                f'{self.who}: layer "{tap.path}" runs {len(seen)} times in one forward pass; say which, '
                f'"{tap.path}@1" to "{tap.path}@{len(seen)}".'
            )
        which = (tap.call or 1) - 1
        if which >= len(seen):
            raise InputError(
                f'{self.who}: tap "{tap.text}" wants call {which + 1}, but the layer runs {len(seen)} times.'
            )
        value = seen[which]
        if not isinstance(value, Tensor):
            raise InputError(
                f'{self.who}: layer "{tap.path}" gives a {type(value).__name__}, not a tensor; '
                f'name an item of it, "{tap.path}:0".'
            )
        versions = self._versions[position]
        if versions and _version(value) != versions[which]:
            raise InputError(
                f'{self.who}: the output of "{tap.path}" is changed in place by a later operation, so what '
                f'would be read is not what the layer gave. Tap "{tap.path}:copy" (the value before the '
                "change) or the later layer."
            )
        return value

    def close(self) -> None:
        """Take the hooks off again, so that the plain network is left as it came."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.taps = ()
        self._seen, self._versions = [], []


def _no_such_layer(who: str, path: str, modules: Iterable[str]) -> str:
    names = [n for n in modules if n]
    depth = path.count(".") + 1
    close = [n for n in names if n.count(".") < depth] or names
    listed = ", ".join(close[:24]) + (", …" if len(close) > 24 else "")
    return f'{who}: no layer "{path}".{nearest(path, names)} Layers: {listed}.'
