"""Whether an optimiser works on parameters that are shared out: tried, since it depends on its every line.

A list of names would be out of date with the next version of timm or torch. Most optimisers go by elements
and some by norms of whole tensors, which torch's `DTensor` gets right; some stop at an operation that it does
not know, and some (muon) compute something else without a word.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.errors import InputError
from limbeck.training.optimizers import same_layout
from limbeck.training.sharding import gathered

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Build", "try_optimizer"]

Build = Callable[[Sequence[tuple[str, nn.Parameter]]], Optimizer]

SHAPES = ((6, 4), (5, 3), (3, 2, 3, 3), (7,), (1,))
"""Parameters for the trial: some can be shared out evenly, some cannot, one leaves processes with nothing."""

STEPS = 4


def try_optimizer(build: Build, name: str, device: torch.device) -> None:
    """Take a few steps on small tensors, whole and shared out, and compare.

    In the middle its state is saved and loaded. All processes must call it.

    Args:
        build: makes the optimiser for named parameters.
        name: what the recipe calls it.
        device: where to try it.

    Raises:
        InputError: it stops, or takes other steps than on one process.
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    expected = _steps(build, device, None)
    try:
        found = _steps(build, device, mesh)
    except (RuntimeError, AssertionError, TypeError, ValueError, NotImplementedError) as error:
        raise InputError(_unfit(name, f"it stops ({type(error).__name__})")) from error
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(found, expected, strict=True)):
        raise InputError(_unfit(name, "it would take other steps than on one process"))


def _unfit(name: str, why: str) -> str:
    return (
        f'train.optimizer.name: "{name}" does not work on parameters that are shared out (train.shard): '
        f"{why}. sgd, adamw, lamb, lion and nadamw are some that do; or leave what is trained whole."
    )


def _steps(build: Build, device: torch.device, mesh: "DeviceMesh | None") -> list[Tensor]:
    """Small parameters after a few steps, on the CPU; shared out over the mesh where there is one."""
    from torch.distributed.tensor import Shard, distribute_tensor

    generator = torch.Generator().manual_seed(0)

    def draw(shape: Sequence[int]) -> Tensor:
        value = torch.randn(*shape, generator=generator).to(device)
        return value if mesh is None else distribute_tensor(value, mesh, [Shard(0)], src_data_rank=None)

    named = [(f"part{number}.weight", nn.Parameter(draw(shape))) for number, shape in enumerate(SHAPES)]
    optimizer = build(named)
    for step in range(STEPS):
        if step == STEPS // 2:
            state = gathered(optimizer.state_dict(), keep=True)
            optimizer = build(named)
            optimizer.load_state_dict(state)
            same_layout(optimizer)
        for _, parameter in named:
            parameter.grad = draw(parameter.shape)
        optimizer.step()
    return [gathered(parameter.detach(), keep=True).cpu() for _, parameter in named]
