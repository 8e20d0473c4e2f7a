"""`compile`: torch's own compiler, on a copy of the network.

On a CPU the parameters are frozen into the graph (Inductor's `freezing`), which folds BatchNorms into
convolutions, packs the weights once, and lets a convolution do the sum and the ReLU that follow it. On a
ResNet-56 (batch 128, one thread, AVX-512) all but 3 % of what is left are the convolutions themselves.
Folding by torch.fx before compiling gave the same time, and fails for networks that cannot be traced; this
way does not, since what the compiler cannot trace runs as it is written.

One graph is compiled, for the shape of the example. Other shapes run as they are written, and nothing is
compiled later: which code answers a batch depends on its shape alone, not on the batches before it, so a
resumed run computes what the unbroken one did.
"""

import copy
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.backends.base import WHERE, Backend, float_knowledge
from limbeck.errors import InputError
from limbeck.export.runtime import first_line
from limbeck.knowledge import Knowledge
from limbeck.taps import Tapped

__all__ = ["Compiled", "Several", "build_many"]


class Compiled(Backend):
    """A copy of the network, compiled.

    Args:
        network: stays untouched.
        example: a batch of the shape, memory order, device and autocast that later ones have.

    Raises:
        InputError: it cannot be compiled here.
    """

    name = "compile"

    def __init__(self, network: Tapped, example: Tensor) -> None:
        self._graph: _Graph | None = _Graph(network, example)

    def __call__(self, input: Tensor) -> Knowledge:
        assert self._graph is not None, "closed"
        answer: Knowledge = self._graph(input)
        return float_knowledge(answer)

    def close(self) -> None:
        if self._graph is not None:
            self._graph.close()
        self._graph = None


class Several:
    """Copies of several networks in one compiled graph, which reads the batch once. Made by `build_many`."""

    def __init__(self, networks: Sequence[Tapped], example: Tensor) -> None:
        self._graph: _Graph | None = _Graph(_Together(networks), example)

    def __call__(self, input: Tensor) -> list[Knowledge]:
        """The answers to a batch [B, ...], in the order of the networks; otherwise as `Backend`."""
        assert self._graph is not None, "closed"
        return [float_knowledge(answer) for answer in self._graph(input)]

    def close(self) -> None:
        """As `Backend.close`."""
        if self._graph is not None:
            self._graph.close()
        self._graph = None


def build_many(networks: Sequence[Tapped], example: Tensor) -> Several:
    """Run several frozen networks as one compiled graph.

    Args:
        networks: at least one; stay untouched.
        example: as for `build`.

    Raises:
        InputError: there is no network, or they cannot be compiled here.
    """
    if not networks:
        raise InputError("teacher.ensemble: there is no network to compile.")
    return Several(networks, example)


class _Together(nn.Module):
    def __init__(self, networks: Sequence[Tapped]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, input: Tensor) -> list[Knowledge]:
        return [network(input) for network in self.networks]


class _Graph:
    """A module's copy, compiled for one shape of input."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self._shape, self._stride = example.shape, example.stride()
        # What freezing gains was measured on CPUs alone; GPUs have the compiler as it comes.
        attempts = (True, False) if example.device.type == "cpu" else (False,)
        for freezing in attempts:
            try:
                self._compiled = _Compilation(module, example, freezing)
                return
            except Exception as error:  # the compiler raises whatever its parts raise
                failed = error
        raise InputError(
            f"{WHERE}: torch cannot compile this network here: {type(failed).__name__}: "
            f"{first_line(failed)}. Use eager, or onnxruntime on a CPU."
        ) from failed

    def __call__(self, input: Tensor) -> Any:
        if input.shape == self._shape and input.stride() != self._stride:
            # The graph is for the example's memory order.
            ordered = torch.empty_strided(self._shape, self._stride, dtype=input.dtype, device=input.device)
            input = ordered.copy_(input)
        # Run as it is written, not compiled anew, for other shapes, dtypes and autocasts.
        with torch.no_grad(), torch.compiler.set_stance("eager_on_recompile"):
            return self._compiled.call(input)

    def close(self) -> None:
        self._compiled.close()


class _Compilation:
    """The compiler's work on a module's copy, and what is left of it."""

    def __init__(self, module: nn.Module, example: Tensor, freezing: bool) -> None:
        import torch._inductor.config
        from torch._inductor.codecache import PyCodeCache

        # Its own copy: parameters that are frozen in must not be anyone's.
        self._ask = _ask(copy.deepcopy(module).eval().requires_grad_(False))
        self.call = torch.compile(self._ask, dynamic=False)
        before = len(PyCodeCache.modules)
        # As a patch and not as an option of torch.compile: the tracer, too, must know.
        with torch.no_grad(), torch._inductor.config.patch(freezing=freezing):
            self.call(example)
        self._written = PyCodeCache.modules[before:]

    def close(self) -> None:
        """Free the weights, of which torch keeps two copies for as long as the process runs."""
        from torch._C._dynamo.eval_frame import reset_code

        reset_code(self._ask.__code__)
        for module in self._written:
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor):
                    delattr(module, name)


def _ask(module: nn.Module) -> Callable[[Tensor], Any]:
    """A call of the module by a function whose code is nobody else's, so that it can be forgotten alone."""

    def ask(input: Tensor) -> Any:
        return module(input)

    return types.FunctionType(ask.__code__.replace(), ask.__globals__, "ask", None, ask.__closure__)
