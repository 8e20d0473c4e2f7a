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

__all__ = ["THRESHOLDS", "Leaving", "early_exit"]

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Top probabilities from which on an exit answers, for the table in `result.json`."""


class Leaving:
    """The exits of a finished student, each written as files of its own: `student.exit-1.onnx` and so on.

    Args:
        student: with exits or without; without them there is nothing to do.
        formats: in which formats to write.
        folder: where the files go.
        data: test set for the figures, training set for calibration.
        name: the run's name, for the files' notes.
        batch: samples in one evaluation batch.

    Attributes:
        files: by "exit-1 onnx" and so on.
    """

    def __init__(
        self, student: Prepared, formats: Sequence[str], folder: Path, data: Data, name: str, batch: int
    ) -> None:
        whole = student.model
        named = list(enumerate(whole.names)) if isinstance(whole, Exits) else []
        self._networks: dict[str, nn.Module] = {
            exit: nn.Sequential(student.adapter, AtExit(whole, number)).eval()
            for number, exit in named
            if isinstance(whole, Exits)
        }
        self._data = data
        self._batch = batch
        self._entries = {
            exit: ship.export(
                network, student.spec, formats, folder, data, name, batch=batch, stem=f"student.{exit}"
            )
            for exit, network in self._networks.items()
        }
        self.files = {
            f"{exit} {form}": folder / entry["file"]
            for exit, entries in self._entries.items()
            for form, entry in entries.items()
        }

    def tell(self, result: dict[str, Any], network: nn.Module, timed: dict[str, float]) -> None:
        """Add to a run's result the size and files of each exit, and what stopping early brings.

        Args:
            result: has the exits' figures by seed already.
            network: the student behind its adapter, whose answer is the deepest.
            timed: milliseconds by the names of `files`.
        """
        if not self._networks:
            return
        images = next(ship.pixels(self._data.test, 2))
        # The files of the student end in its own answer, and have no exits.
        own = _size(network, images)
        for entry in result["exports"].values():
            entry["parameters"] = own["parameters"]
        for exit, entries in self._entries.items():
            for form, entry in entries.items():
                entry["latency_ms"] = timed[f"{exit} {form}"]
            result["exits"][exit] |= {**_size(self._networks[exit], images), "exports": entries}
        result["early_exit"] = early_exit(self._networks, network, self._data, self._batch)


def _size(network: nn.Module, images: Tensor) -> dict[str, int]:
    """Parameters that an exit's answer depends on, and the bytes that they take."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    reached = torch.autograd.grad(network(images).sum(), parameters, allow_unused=True)
    used = [p for p, slope in zip(parameters, reached, strict=True) if slope is not None]
    return {
        "parameters": sum(p.numel() for p in used),
        "bytes": sum(p.numel() * p.element_size() for p in used),
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
