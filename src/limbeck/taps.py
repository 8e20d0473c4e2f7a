"""Reading inner layers of a network without rewriting it: `Tapped`. How a tap is written: `limbeck.tap`."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from limbeck.errors import InputError, nearest
from limbeck.knowledge import Knowledge
from limbeck.tap import Tap

__all__ = ["Tap", "Tapped"]


class _Notes:
    """What the hooks of one network read, shared with `Tapped`; they read nothing while `on` is false.

    A class and not closures, so that a deep copy of the network reads into the copy's own notes.
    """

    def __init__(self, taps: int, who: str) -> None:
        self.who = who
        self.on = False
        self.seen: list[list[Any]] = [[] for _ in range(taps)]
        self.versions: list[list[int]] = [[] for _ in range(taps)]

    def clear(self) -> None:
        for seen, versions in zip(self.seen, self.versions, strict=True):
            seen.clear()
            versions.clear()

    def take(self, position: int, tap: Tap, value: Any) -> None:
        value = tap.formed(self.who, value)
        self.seen[position].append(value)
        if not torch.compiler.is_compiling():  # a graph has no version counters
            self.versions[position].append(_version(value))


class _OutputReader:
    """The hook that notes what the taps on a module's output want."""

    def __init__(self, wanted: list[tuple[int, Tap]], notes: _Notes) -> None:
        self.wanted = wanted
        self.notes = notes

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if self.notes.on:
            for position, tap in self.wanted:
                self.notes.take(position, tap, output)


class _InputReader:
    """The hook for `:in`. It runs before the module, which may change its input in place."""

    def __init__(self, wanted: list[tuple[int, Tap]], notes: _Notes) -> None:
        self.wanted = wanted
        self.notes = notes

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.notes.on:
            given = [*args, *kwargs.values()]
            for position, tap in self.wanted:
                self.notes.take(position, tap, given[0] if given else None)


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
        self._adapts = adapter is not None
        self.who = who
        self.taps = tuple(Tap.parse(t) for t in taps)
        self._notes = _Notes(len(self.taps), who)
        self._handles: list[RemovableHandle] = []
        if self.taps:
            self._attach()

    def _attach(self) -> None:
        if any(_is_compiled(m) for m in self.model.modules()):
            raise InputError(
                f"{self.who}: the network is compiled already, and a tap attached after compiling never "
                "fires. Give the plain network; compile with `train.compile: true`, or after tapping."
            )
        # A module that stands in several places may be tapped under any of its names.
        modules = dict(self.model.named_modules(remove_duplicate=False))
        by_path: dict[str, list[tuple[int, Tap]]] = {}
        for position, tap in enumerate(self.taps):
            if tap.path not in modules:
                raise InputError(_no_such_layer(self.who, tap.path, modules))
            by_path.setdefault(tap.path, []).append((position, tap))
        for path, wanted in by_path.items():
            module = modules[path]
            inputs = [(i, tap) for i, tap in wanted if tap.entering]
            outputs = [(i, tap) for i, tap in wanted if not tap.entering]
            if inputs:
                reader = _InputReader(inputs, self._notes)
                self._handles.append(module.register_forward_pre_hook(reader, with_kwargs=True))
            if outputs:
                self._handles.append(module.register_forward_hook(_OutputReader(outputs, self._notes)))

    @property
    def adapts(self) -> bool:
        """Whether an adapter stands in front of the network."""
        return self._adapts

    @property
    def tapped_modules(self) -> tuple[nn.Module, ...]:
        """The modules that are read, in the order of the features."""
        return tuple(self.model.get_submodule(t.path) for t in self.taps)

    def forward(self, input: Tensor | dict[str, Tensor]) -> Knowledge:
        """The network's answer: logits [B, C] and the tapped features.

        Raises:
            InputError: the answer is no tensor, or a tap cannot be read as it is written.
        """
        if self._adapts:
            input = self.adapter(input)
        features: tuple[Tensor, ...] = ()
        if not self.taps:
            logits = self.model(input)
        else:
            notes = self._notes
            notes.clear()
            notes.on = True
            try:
                logits = self.model(input)
                features = tuple(self._read(i) for i in range(len(self.taps)))
            finally:
                notes.on = False
                notes.clear()  # or the graph would live on until the next batch
        if not isinstance(logits, Tensor):
            raise InputError(
                f"{self.who}: must answer a tensor of logits; it answers {type(logits).__name__}."
            )
        return Knowledge(logits, features)

    def _read(self, position: int) -> Tensor:
        tap, seen = self.taps[position], self._notes.seen[position]
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
                f'{self.who}: layer "{tap.path}" {tap.gives} a {type(value).__name__}, not a tensor; '
                f'name an item of it, "{_place(tap)}{":in" if tap.entering else ""}:0".'
            )
        versions = self._notes.versions[position]
        if versions and _version(value) != versions[which]:
            raise InputError(_changed(self.who, tap))
        return value

    def close(self) -> None:
        """Take the hooks off again, so that the plain network is left as it came."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.taps = ()
        self._notes = _Notes(0, self.who)


def _is_compiled(module: nn.Module) -> bool:
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")


def _changed(who: str, tap: Tap) -> str:
    if tap.entering:
        return (
            f'{who}: the input of "{tap.path}" is changed in place, by that layer or a later operation, so '
            f'what would be read is not what the layer was given. Tap "{_place(tap)}:in:copy" (the value '
            "before the change)."
        )
    return (
        f'{who}: the output of "{tap.path}" is changed in place by a later operation, so what would be read '
        f'is not what the layer gave. Tap "{_place(tap)}:copy" (the value before the change) or the later '
        "layer."
    )


def _place(tap: Tap) -> str:
    return tap.path if tap.call is None else f"{tap.path}@{tap.call}"


def _no_such_layer(who: str, path: str, modules: Iterable[str]) -> str:
    names = [n for n in modules if n]
    depth = path.count(".") + 1
    close = [n for n in names if n.count(".") < depth] or names
    listed = ", ".join(close[:24]) + (", …" if len(close) > 24 else "")
    return f'{who}: no layer "{path}".{nearest(path, names)} Layers: {listed}.'
