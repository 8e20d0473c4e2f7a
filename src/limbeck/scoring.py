"""The figures of all networks of a call of `limbeck.distill`, in one pass over the caller's own loader."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.evaluation.metrics import Evaluation, score
from limbeck.knowledge import UNLABELLED, Batch, as_batch
from limbeck.runfolder import teaches
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble, Fixed, Frozen
from limbeck.training.runtime import Runtime

__all__ = ["figures"]


def figures(
    student: Tapped,
    teacher: Fixed | None,
    control: Tapped | None,
    loader: Iterable[Any] | None,
    runtime: Runtime,
    others: Mapping[str, nn.Module] | None = None,
) -> dict[str, Evaluation | None]:
    """The figures of all networks, in one pass over the validation loader, which may shuffle.

    Args:
        student: the network that was trained.
        teacher: its teacher, or several.
        control: the same without one.
        loader: yields samples with their targets; None: there are no figures.
        runtime: where.
        others: what learned beside the student, by name.
    """
    networks: dict[str, nn.Module | None] = {"teacher": None, "control": control, "student": student}
    networks |= others or {}
    if isinstance(teacher, Frozen):
        networks["teacher"] = teacher.network
    if isinstance(teacher, Ensemble):
        networks["teacher"] = Tapped(teacher.plain(), (), who="teacher")
        networks |= {f"teacher.{name}": member.network for name, member in teacher.members.items()}
    asked = {name: network.eval() for name, network in networks.items() if network is not None}
    found: dict[str, Evaluation | None] = dict.fromkeys(networks)
    if loader is None:
        return found
    said: dict[str, list[Tensor]] = {name: [] for name in asked}
    targets: list[Tensor] = []
    with torch.no_grad(), runtime.autocast():
        for item in loader:
            batch = runtime.put(as_batch(item))
            for name, network in asked.items():
                said[name].append(network(batch.input).logits.float().cpu())
            targets.append(_labels(batch).cpu())
    if not targets:
        raise InputError("valid_loader: it gives no batch.")
    logits = {name: torch.cat(parts) for name, parts in said.items()}
    heard = logits.get("teacher")
    if heard is not None and heard.shape != logits["student"].shape:
        heard = None  # it answers other classes: there is nothing to compare
        del logits["teacher"]
    labels = torch.cat(targets)
    for name, answer in logits.items():
        found[name] = score(answer, labels, teacher_logits=None if teaches(name) else heard)
    return found


def _labels(batch: Batch) -> Tensor:
    if batch.target is None:
        return torch.full((len(batch),), UNLABELLED)
    if batch.target.dim() != 1:
        raise InputError(
            f"valid_loader: targets must be class indices [B], not mixed; got {list(batch.target.shape)}."
        )
    return batch.target
