"""What the exits of a finished student are worth: a file of each, and what stopping early at them brings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import ship
from limbeck.build import Prepared
from limbeck.data import Data, evaluation_batches
from limbeck.evaluation.metrics import evaluate, score
from limbeck.students.early import first_sure
from limbeck.students.exits import AtExit, Exits

__all__ = ["THRESHOLDS", "early_exit", "exit_files", "exit_networks", "exit_sizes"]

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Top probabilities from which on an exit answers, for the table in `result.json`."""


def exit_networks(student: Prepared) -> dict[str, nn.Module]:
    """Each exit as a network behind the student's adapter, from shallow to deep, where there are any."""
    whole = student.model
    if not isinstance(whole, Exits):
        return {}
    return {
        name: nn.Sequential(student.adapter, AtExit(whole, number)).eval()
        for number, name in enumerate(whole.names)
    }


def exit_sizes(networks: dict[str, nn.Module], images: Tensor) -> dict[str, dict[str, int]]:
    """Parameters that each exit's answer depends on, and the bytes that they take."""
    found = {}
    for name, network in networks.items():
        parameters = [p for p in network.parameters() if p.requires_grad]
        reached = torch.autograd.grad(network(images).sum(), parameters, allow_unused=True)
        used = [p for p, slope in zip(parameters, reached, strict=True) if slope is not None]
        found[name] = {
            "parameters": sum(p.numel() for p in used),
            "bytes": sum(p.numel() * p.element_size() for p in used),
        }
    return found


def exit_files(
    networks: dict[str, nn.Module],
    student: Prepared,
    formats: Sequence[str],
    folder: Path,
    data: Data,
    name: str,
    batch: int,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Write `student.exit-1.onnx` and so on, and evaluate each file; as `ship.export`, by exit."""
    return {
        exit: ship.export(
            network, student.spec, formats, folder, data, name, batch=batch, stem=f"student.{exit}"
        )
        for exit, network in networks.items()
    }


def early_exit(
    networks: dict[str, nn.Module], student: nn.Module, data: Data, batch: int
) -> list[dict[str, Any]]:
    """What stopping at the first exit that is sure brings on the test set, threshold by threshold.

    Args:
        networks: the exits, from shallow to deep.
        student: the network whose answer is the deepest.
        data: holds the test set.
        batch: samples in one evaluation batch.

    Returns:
        For each threshold: `threshold`, `accuracy`, and `shares`, the share of the samples that each exit
        answered, the student's own answer last.
    """
    asked = [_logits(network, data, batch) for network in (*networks.values(), student)]
    names = [*networks, "student"]
    rows = []
    for threshold in THRESHOLDS:
        found = first_sure(asked, threshold)
        rows.append(
            {
                "threshold": threshold,
                "accuracy": score(found.logits, data.test.targets).figure("accuracy"),
                "shares": dict(zip(names, found.shares(len(names)), strict=True)),
            }
        )
    return rows


def _logits(network: nn.Module, data: Data, batch: int) -> Tensor:
    """What a network in eval mode says of the test set, [N, C]."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    return evaluate(
        lambda b: network(b.to(device).input),
        evaluation_batches(data.test, batch),
        classes=len(data.classes),
    )[1]
