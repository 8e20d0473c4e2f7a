"""What the tests of self-distillation share: a small scheme of a kind, with its batches."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.arranging import arrange
from limbeck.build import load_data, make_objective, make_student
from limbeck.data import Data
from limbeck.data.loader import Loader
from limbeck.data.plans import Plan
from limbeck.knowledge import Batch
from limbeck.recipe import Recipe
from limbeck.schemes import catalogue
from limbeck.schemes.base import Kind

__all__ = ["BATCH", "batches", "built", "divergence", "gradients", "recipe", "same_gradients"]

BATCH = 16


def recipe(kind: str, options: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    """A recipe of a kind with the objective that its paper uses."""
    given: dict[str, Any] = {
        "name": "own",
        "student": {"model": "py:limbeck.students.small:convnet", "width": 4, "depth": 3},
        "data": {"source": "digits", "samples": 96, "batch_size": BATCH, "views": {"crop": 1}},
        "objective": catalogue.get("own", kind).published["objective"],
        "scheme": {"name": "own", "kind": kind, **(options or {})},
        "train": {"epochs": 4, "device": "cpu"},
        "export": {"formats": []},
    }
    return Recipe.from_dict({**given, **changes})


def built(chosen: Recipe, seed: int = 0) -> tuple[Kind, Data]:
    """Its scheme, in training mode, and its data."""
    data = load_data(chosen)
    objective = make_objective(chosen.objective, chosen.beside)
    scheme = arrange(chosen, data, seed, make_student(chosen, data, seed), objective)
    scheme.train()
    return scheme, data


def batches(data: Data, seed: int = 0, view: int = 0) -> list[Batch]:
    """Those of a pass."""
    loader = Loader(data.train, Plan(seed, len(data.train), BATCH))
    return [parts[0] for parts in loader.steps(view=view)]


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·KL by the book, sample by sample and class by class."""
    total = torch.zeros(())
    for ours, theirs in zip(student, teacher.detach(), strict=True):
        p, q = F.softmax(theirs / temperature, 0), F.softmax(ours / temperature, 0)
        total = total + sum(a * (a.log() - b.log()) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / len(student)


def gradients(loss: Tensor, scheme: Kind) -> list[Tensor]:
    """The slopes of a loss by all that the student holds."""
    return list(torch.autograd.grad(loss, list(scheme.student.parameters())))


def same_gradients(found: Tensor, wanted: Tensor, scheme: Kind) -> None:
    """The same value, and the same slopes."""
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients(found, scheme), gradients(wanted, scheme), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
