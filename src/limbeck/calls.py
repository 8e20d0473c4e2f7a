"""What happens inside a network in one pass: `watch` notes every call of every module."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.taps import Tapped

__all__ = [
    "Call",
    "classifier",
    "eager",
    "features_at",
    "first_answer",
    "is_norm",
    "is_pooling",
    "is_rectified",
    "is_relu",
    "unfit",
    "version_of",
    "watch",
]


@dataclass(eq=False)
class Call:
    """One call of a module.

    Attributes:
        path: the module's.
        number: of the module's calls, from 1.
        module: who was called.
        start: when, in the order of all beginnings and ends.
        given: the first input.
        given_version: how often it had been changed in place by then.
        end: when it was done.
        answer: the output.
        answer_version: how often it had been changed in place by then.
        inner: the calls that it made, in order.
    """

    path: str
    number: int
    module: nn.Module
    start: int
    given: Any = None
    given_version: int = 0
    end: int = 0
    answer: Any = None
    answer_version: int = 0
    inner: list["Call"] = field(default_factory=list)

    def all(self) -> Iterator["Call"]:
        """This call and those inside it, in the order of their beginnings."""
        yield self
        for call in self.inner:
            yield from call.all()

    def enters(self, value: Any, version: int) -> bool:
        """Whether it was given just this: the same tensor, not changed in place in between."""
        return self.given is value and self.given_version == version

    def leaves(self, value: Any, version: int) -> bool:
        """Whether it answered just this."""
        return self.answer is value and self.answer_version == version


def watch(network: Tapped, batch: Batch) -> Call:
    """The call of the network itself on the first two samples, with all calls inside it.

    Two, because some networks squeeze the axis of one sample away. In eval mode, without gradient; afterwards
    the network is as it was. All answers are kept alive by what is returned, so that one can be told from
    another.

    Raises:
        InputError: the network cannot take such input.
    """
    stack: list[Call] = [Call("", 0, nn.Identity(), 0)]
    numbers: dict[str, int] = {}
    clock = count()

    def opens(path: str) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            numbers[path] = numbers.get(path, 0) + 1
            given = next(iter([*args, *kwargs.values()]), None)
            call = Call(path, numbers[path], module, next(clock), given, version_of(given))
            stack[-1].inner.append(call)
            stack.append(call)

        return note

    def closes(module: nn.Module, args: tuple[Any, ...], answer: Any) -> None:
        call = stack.pop()
        call.answer, call.answer_version, call.end = answer, version_of(answer), next(clock)

    handles = []
    for path, module in network.model.named_modules():
        handles.append(module.register_forward_pre_hook(opens(path), with_kwargs=True))
        handles.append(module.register_forward_hook(closes))
    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    given = batch.to(device).input
    network.eval()
    try:
        with torch.no_grad(), eager(network):
            network(given[:2] if isinstance(given, Tensor) else {k: v[:2] for k, v in given.items()})
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise unfit(network.who, batch, error) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
        for handle in handles:
            handle.remove()
    return stack[0].inner[0]


def classifier(root: Call) -> Call | None:
    """The call of the linear layer whose answer is the network's own; None: there is no such layer.

    Neither the linear layer that was registered last nor the one that is called last needs to be it.

    Args:
        root: what `watch` gives.
    """
    linear = [call for call in root.all() if isinstance(call.module, nn.Linear)]
    answers = [call for call in linear if call.leaves(root.answer, root.answer_version)]
    return answers[-1] if answers else None


def eager(module: nn.Module) -> AbstractContextManager[Any]:
    """Lets what is compiled in a module run as it is written, with hooks, and nothing be compiled anew."""
    compiled = any(
        getattr(m, "_compiled_call_impl", None) or hasattr(m, "_orig_mod") for m in module.modules()
    )
    return torch.compiler.set_stance("force_eager") if compiled else contextlib.nullcontext()


def first_answer(who: str, network: nn.Module, batch: Batch, ask: Callable[[Batch], Knowledge]) -> Knowledge:
    """What a network says the first time that it sees the data; what fails then does so as they do not fit.

    One that an earlier seed compiled answers as it is written: compiled for this size too, it would run other
    code for later seeds than a resumed run does.

    Raises:
        InputError: the network cannot take such input.
    """
    try:
        with torch.no_grad(), eager(network):
            return ask(batch)
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        if isinstance(error, InputError):
            raise
        raise unfit(who, batch, error) from error


def features_at(network: Tapped, taps: Sequence[str], batch: Batch) -> tuple[Tensor, ...]:
    """What a network that is yet to be tapped says there, in eval mode; it is left as it was."""
    modes = {module: module.training for module in network.modules()}
    reading = Tapped(network.model, taps, network.adapter, who=network.who).eval()
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            answer: Knowledge = reading(batch.to(device).input)
            return answer.features
    finally:
        reading.close()
        for module, mode in modes.items():
            module.training = mode


def unfit(who: str, batch: Batch, error: Exception) -> InputError:
    """What to tell of a network that fails at the first samples it sees: it and the data do not fit."""
    seen = list(batch.input.shape[1:]) if isinstance(batch.input, Tensor) else list(batch.input)
    return InputError(
        f"{who}: cannot take input of shape {seen}: {type(error).__name__}: {error}. "
        f"`{who}.input: {{size: …, channels: …}}` "
        "adapts images."
    )


def version_of(value: Any) -> int:
    """How often a tensor has been changed in place."""
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


def is_pooling(module: nn.Module) -> bool:
    """Whether it pools, and does nothing else."""
    return "Pool" in type(module).__name__ and not any(True for _ in module.parameters())


def is_relu(call: Call) -> bool:
    """Whether it is of a ReLU."""
    return isinstance(call.module, nn.ReLU | nn.ReLU6)


def is_norm(call: Call) -> bool:
    """Whether it is of a BatchNorm."""
    return isinstance(call.module, nn.modules.batchnorm._BatchNorm)


def is_rectified(value: Tensor) -> bool:
    """Whether it looks as if it had gone through a ReLU."""
    return bool((value >= 0).all()) and bool((value == 0).any())
