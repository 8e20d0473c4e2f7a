"""Networks that do not fit one device, shared out among the processes (`train.shard`), by torch's FSDP2.

Of each parameter a process keeps a part; a block's are gathered when the block runs, and let go after it.
Weights, gradients, the optimiser's numbers and averages of weights then take a share of the room in each
process. Everything is computed in the precision that one process computes in: parameters are gathered as they
are, in fp32, and autocast does the rest.

torch's own `fully_shard`, and not Accelerate's plugin for it: that one is settled when the process starts and
prepares one network together with its optimiser; here there are a frozen teacher and a student, either or
both of them sharded, and a scheme may have several optimisers. States of trainings are gathered tensor by
tensor into the form that a single process writes, so that any layout goes on from any other's; torch's
helpers for that name the optimiser's entries in another way, and first take a step to have some.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.taps import Tapped

__all__ = [
    "Sharded",
    "gathered",
    "is_part",
    "is_sharded",
    "load_state",
    "local",
    "opened",
    "shard",
    "taken",
    "units",
    "whole_state",
]


class Sharded(nn.Module):
    """A sharded scheme as the trainer calls it: in the precision of the training.

    Args:
        scheme: sharded already.
        autocast: the precision's context.
    """

    def __init__(self, scheme: nn.Module, autocast: Callable[[], AbstractContextManager[Any]]) -> None:
        super().__init__()
        self.scheme = scheme
        self._autocast = autocast

    def forward(self, *arguments: Any) -> dict[str, Tensor]:
        with self._autocast():
            losses: dict[str, Tensor] = self.scheme(*arguments)
        return {name: value.float() for name, value in losses.items()}

    @contextlib.contextmanager
    def no_sync(self) -> Iterator[None]:
        """Exchange no gradients: more parts of the same batch follow."""
        scheme: Any = self.scheme
        scheme.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            scheme.set_requires_gradient_sync(True)


def is_sharded(module: nn.Module) -> bool:
    """Whether `shard` was here."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def shard(module: nn.Module, device: torch.device) -> None:
    """Share a network's parameters out among all processes, in place; buffers stay whole in each.

    Each of `units` is gathered and let go as one, and what lies in none of them with the module itself, which
    is the only one that may be called. A module that is sharded already is left alone. From the CPU, one unit
    after the other goes to the device, so a network need not fit there as a whole.

    Args:
        module: a scheme, or a frozen network that answers a tensor.
        device: where this process computes.
    """
    if is_sharded(module):
        return
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for parameter in module.parameters():
        parameter.data = parameter.data.contiguous()  # fully_shard knows no other memory order
    for unit in (*units(module), module):
        # Said outright also for the module itself, which else stays gathered after a pass without gradients,
        # and would miss what is written into its parameters then (averaged weights, say).
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    module.to(device)


def units(module: nn.Module) -> list[nn.Module]:
    """The blocks that are gathered one at a time: the innermost repeated ones of a sequence or list.

    A block counts as repeated when the same sequence holds another of its class, and it has layers of its
    own. A block that is tapped inside is none: its gradient may start there, before FSDP hears of it.
    """
    read = _read_inside(module)
    found: list[nn.Module] = []
    for container in module.modules():
        if not isinstance(container, nn.Sequential | nn.ModuleList):
            continue
        kinds = Counter(type(child) for child in container)
        found += [child for child in container if kinds[type(child)] > 1 and _is_block(child)]
    known = {id(m) for m in found}
    innermost = {
        id(m): m for m in found if not any(id(inner) in known for inner in m.modules() if inner is not m)
    }
    return [m for number, m in innermost.items() if number not in read]


def _is_block(module: nn.Module) -> bool:
    callable_itself = type(module).forward is not nn.Module.forward  # a list of layers is not
    return callable_itself and any(True for _ in module.children()) and any(True for _ in module.parameters())


def _read_inside(module: nn.Module) -> set[int]:
    """Modules with a tap inside them: of a layer within, or of what they themselves are given."""
    found: set[int] = set()
    for tapped in module.modules():
        for tap in tapped.taps if isinstance(tapped, Tapped) else ():
            assert isinstance(tapped, Tapped)
            read = tapped.model.get_submodule(tap.path)
            holders = [m for m in tapped.model.modules() if any(inner is read for inner in m.modules())]
            found |= {id(m) for m in holders if m is not read or tap.entering}
    return found


@contextlib.contextmanager
def opened(module: nn.Module) -> Iterator[None]:
    """A sharded module with the parameters of no unit gathered, so that its children can be called.

    Nothing must write into parameters in here. A module that is not sharded is as open as ever.
    """
    if not is_sharded(module):
        yield
        return
    sharded: Any = module
    sharded.unshard()
    try:
        yield
    finally:
        sharded.reshard()


def is_part(value: object) -> bool:
    """Whether a value is a tensor of which this process holds a part."""
    if type(value) in (Tensor, nn.Parameter) or not isinstance(value, Tensor):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def local(value: Tensor) -> Tensor:
    """This process's part of a tensor, without its gradient's history; what is not shared out is whole."""
    held: Any = value.detach()
    part: Tensor = held.to_local() if is_part(held) else held
    return part


def taken(value: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, shared out as `like` is; the tensor itself where that is not."""
    if not is_part(like) or is_part(value):
        return value
    from torch.distributed.tensor import distribute_tensor

    shared: Any = like
    # No source: each process has the whole, and takes its own part of it.
    part: Tensor = distribute_tensor(
        value.detach().to(shared.device), shared.device_mesh, shared.placements, src_data_rank=None
    )
    return part


def gathered(tree: Any, keep: bool) -> Any:
    """A tree of plain values and tensors with all shared-out tensors whole, on the CPU.

    All processes must call it with trees of the same shape.

    Args:
        tree: mappings, lists and tuples.
        keep: whether this process wants the tensors; None takes their place where it does not.
    """
    if is_part(tree):
        full: Tensor = tree.detach().full_tensor()
        return full.cpu() if keep else None
    if isinstance(tree, Mapping):
        return {key: gathered(value, keep) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(gathered(value, keep) for value in tree)
    return tree


def whole_state(module: nn.Module, keep: bool = True) -> dict[str, Tensor]:
    """A module's `state_dict()`, with what is shared out gathered; see `gathered`."""
    state: dict[str, Tensor] = gathered(module.state_dict(), keep)
    return state


def load_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a whole state into a module that may be sharded.

    Raises:
        RuntimeError: the state is another module's, as torch says it.
    """
    own = module.state_dict()
    module.load_state_dict({name: taken(v, own[name]) if name in own else v for name, v in state.items()})
