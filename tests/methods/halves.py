"""Two processes with half a batch each: loss and gradients of a method, as data-parallel training has them.

    python halves.py FOLDER

writes `FOLDER/<rank>.pt`. It is a program of its own because only a process that has not back-propagated yet
may be forked.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from forking import in_processes
from limbeck import methods
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Probe

WORLD, SAMPLES = 2, 6
NAMES = (
    "contrastive",
    "correlation_congruence",
    "dist",
    "holistic_graph",
    "instance_graph",
    "multi_level_kd",
    "probabilistic_transfer",
    "projector_norm",
    "relational",
    "relational_angle",
    "relational_distance",
    "similarity_preserving",
)
"""Every method that looks at the samples of all processes."""

DRAWING = ("contrastive", "holistic_graph")
"""Those of them that draw negatives at random; here each sample has the same ones wherever it is."""


def answers(dtype: torch.dtype) -> tuple[nn.Linear, Tensor, Knowledge]:
    """The student's one layer, the inputs of the whole batch, and what the teacher says about them."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    layer = nn.Linear(5, 4, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(draw(4, 5))
        layer.bias.copy_(draw(4))
    return layer, draw(SAMPLES, 5), Knowledge(draw(SAMPLES, 4), (draw(SAMPLES, 7),))


def measure(name: str, dtype: torch.dtype, rank: int = 0, world: int = 1) -> dict[str, Any]:
    """Loss of one process's part of the batch, and the gradients averaged over processes."""
    layer, inputs, teacher = answers(dtype)
    mine = slice(rank * SAMPLES // world, (rank + 1) * SAMPLES // world)
    said = layer(inputs[mine])
    ours = Knowledge(said, (said,))
    theirs = Knowledge(teacher.logits[mine], tuple(f[mine] for f in teacher.features))
    method = methods.create(name, {})
    targets = torch.arange(SAMPLES) % 4
    batch = Batch(inputs[mine], targets[mine], torch.arange(SAMPLES)[mine])
    probe = Probe(ours.detach(), theirs, batch, generator=torch.Generator().manual_seed(1))
    method.setup(replace(probe, samples=SAMPLES, classes=4, targets=targets))
    method.to(dtype)
    if name in DRAWING:
        others = torch.stack([(torch.arange(1, 4) + row) % SAMPLES for row in range(SAMPLES)])
        method.strangers.draw = lambda index, count: others[index]
    loss = method(ours, theirs, batch)
    loss.backward()
    gradients = {}
    for key, parameter in [*layer.named_parameters(), *method.named_parameters()]:
        assert parameter.grad is not None
        if world > 1:
            dist.all_reduce(parameter.grad)
        gradients[key] = parameter.grad / world
    loss = loss.detach()
    if name in DRAWING and world > 1:  # each process scores its own samples
        dist.all_reduce(loss)
        loss /= world
    remembered = {name: value for name, value in method.named_buffers() if value.is_floating_point()}
    return {"loss": loss, "gradients": gradients, "remembered": remembered}


def everything(rank: int = 0, world: int = 1) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (name, str(dtype)): measure(name, dtype, rank, world)
        for name in NAMES
        for dtype in (torch.float32, torch.float64)
    }


if __name__ == "__main__":
    sys.exit(in_processes(WORLD, Path(sys.argv[1]), lambda rank: everything(rank, WORLD)))
