"""How good the answers are: accuracy, loss, calibration, and fidelity to the teacher.

Conventions:
    accuracy    correct labelled samples over labelled samples, both counted as integers.
    loss        mean cross-entropy in nats over the labelled samples, without label smoothing.
    ece         expected calibration error, 15 equal bins of confidence, mean absolute difference
                (Guo et al. 2017, https://arxiv.org/abs/1706.04599), by torchmetrics.
    agreement   share of all samples, labelled or not, on which student and teacher name the same class.
    kl          mean over all samples of KL(teacher || student) in nats, at temperature 1.

The counts are our own: torchmetrics divides in float32, and an accuracy is to be exact.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from limbeck.errors import InputError, WorkError
from limbeck.evaluation.figures import Figures
from limbeck.knowledge import UNLABELLED, Batch

__all__ = ["Evaluation", "evaluate", "score"]

BINS = 15


@dataclass(frozen=True)
class Evaluation:
    """What one network is worth on one split.

    Attributes:
        accuracy: in [0, 1]; NaN when no sample is labelled, as are `loss` and `ece`.
        loss: mean cross-entropy, nats.
        ece: expected calibration error, in [0, 1].
        samples: number of samples answered, labelled or not.
        per_class: accuracy on each class; NaN for a class without samples.
        agreement: share of samples on which the teacher names the same class; None without a teacher.
        kl: mean KL(teacher || student), nats; None without a teacher.
        metrics: further figures that were asked for, by name; NaN when no sample is labelled.
    """

    accuracy: float
    loss: float
    ece: float
    samples: int
    per_class: list[float]
    agreement: float | None = None
    kl: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """All fields, with null for what does not exist: JSON knows no NaN."""
        return {
            "accuracy": _or_null(self.accuracy),
            "loss": _or_null(self.loss),
            "ece": _or_null(self.ece),
            "samples": self.samples,
            "per_class": [_or_null(value) for value in self.per_class],
            "agreement": self.agreement,
            "kl": self.kl,
            "metrics": {name: _or_null(value) for name, value in self.metrics.items()},
        }

    def figure(self, name: str) -> float | None:
        """One figure by name, further ones among them; None where there is none."""
        found = self.metrics[name] if name in self.metrics else getattr(self, name)
        return found if isinstance(found, float) and math.isfinite(found) else None


def evaluate(
    answer: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    *,
    classes: int,
    teacher_logits: Tensor | None = None,
    figures: Figures | None = None,
    gather: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[Evaluation, Tensor]:
    """Ask a network about every batch and score what it says.

    Args:
        answer: gives the logits [B, C] for a batch. The caller has put the network in eval mode and moves
            the batch to its device; gradients are off in here.
        batches: this process's samples. Where they carry an index, the results are put in its order,
            whatever the order of reading, so that logits of two networks can be compared row by row.
        classes: C.
        teacher_logits: [N, C], the logits that an earlier call returned for the teacher.
        figures: further figures to compute.
        gather: with several processes, joins one tensor of each along the first dimension; the processes
            may hold unequal numbers of rows, even none (an empty tensor, on the CPU), so it moves what it
            is given to the device it communicates on. Every process gets the same result.
        progress: called after each batch with the number of samples in it.

    Returns:
        The scores, and the logits [N, C] as float32 on the CPU.

    Raises:
        InputError: no samples, mixed targets, labels out of range, or shapes that do not fit.
        WorkError: the network's answers are not finite, or a sample was counted twice.
    """
    logits, targets, indices = [], [], []
    with torch.no_grad():
        for batch in batches:
            said = answer(batch).detach().float()
            _check_answer(said, batch, classes)
            logits.append(said)
            targets.append(_labels(batch).to(said.device))
            indices.append(_indices(batch).to(said.device))
            if progress is not None:
                progress(len(batch))
    if not logits and gather is None:
        raise InputError("evaluation: there is no sample to evaluate on")
    # A process without samples joins in with empty tensors, or the others would wait for it forever.
    joined = torch.cat(logits) if logits else torch.empty(0, classes)
    labels = torch.cat(targets) if targets else torch.empty(0, dtype=torch.int64)
    index = torch.cat(indices) if indices else torch.empty(0, dtype=torch.int64)
    if gather is not None:
        joined, labels, index = gather(joined), gather(labels), gather(index)
    rows = _order(index.cpu())
    joined, labels = joined.cpu()[rows], labels.cpu()[rows]
    return score(joined, labels, teacher_logits=teacher_logits, figures=figures), joined


def score(
    logits: Tensor,
    targets: Tensor,
    *,
    teacher_logits: Tensor | None = None,
    figures: Figures | None = None,
) -> Evaluation:
    """Score logits [N, C] against class indices [N] (`UNLABELLED` where not known).

    Raises:
        InputError: no samples, labels out of range, or teacher logits of another shape.
        WorkError: logits that are not finite.
    """
    logits, targets = logits.detach().float().cpu(), targets.detach().cpu()
    samples, classes = logits.shape
    if samples == 0:
        raise InputError("evaluation: there is no sample to evaluate on")
    _check_finite(logits, "network")
    known = targets != UNLABELLED
    labels = targets[known]
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise InputError(
            f"evaluation: labels must lie in 0 to {classes - 1}, or be {UNLABELLED} where not known; "
            f"got {int(labels.min())} to {int(labels.max())}"
        )
    named = logits.argmax(1)
    agreement, kl = _fidelity(logits, named, teacher_logits)
    right = labels[named[known] == labels].bincount(minlength=classes).tolist()
    seen = labels.bincount(minlength=classes).tolist()
    return Evaluation(
        accuracy=_share(sum(right), sum(seen)),
        loss=_mean(F.cross_entropy(logits[known], labels, reduction="none")),
        ece=_calibration_error(logits[known], labels),
        samples=samples,
        per_class=[_share(r, s) for r, s in zip(right, seen, strict=True)],
        agreement=agreement,
        kl=kl,
        metrics={} if figures is None else figures(logits[known], labels),
    )


def _fidelity(logits: Tensor, named: Tensor, teacher: Tensor | None) -> tuple[float | None, float | None]:
    """Agreement with the teacher, and KL(teacher || student)."""
    if teacher is None:
        return None, None
    if teacher.shape != logits.shape:
        raise InputError(
            f"evaluation: the teacher's logits are {list(teacher.shape)}, the student's "
            f"{list(logits.shape)}; both must answer the same samples and classes"
        )
    teacher = teacher.detach().float().cpu()
    _check_finite(teacher, "teacher")
    same = int((teacher.argmax(1) == named).sum())
    divergence = F.kl_div(logits.log_softmax(1), teacher.log_softmax(1), reduction="none", log_target=True)
    # Rounding can leave a sum a hair below zero, which no divergence is.
    return same / len(named), max(0.0, _mean(divergence.sum(1)))


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    if not labels.numel():
        return math.nan
    from torchmetrics.functional.classification import multiclass_calibration_error

    # Probabilities, not logits: torchmetrics guesses which it was given from the range of the values.
    shares = logits.softmax(1)
    error = multiclass_calibration_error(shares, labels, num_classes=shares.shape[1], n_bins=BINS, norm="l1")
    return float(error)


def _check_answer(logits: Tensor, batch: Batch, classes: int) -> None:
    if logits.shape != (len(batch), classes):
        raise InputError(
            f"evaluation: the network must answer [{len(batch)}, {classes}] (samples, classes); "
            f"got {list(logits.shape)}"
        )


def _check_finite(logits: Tensor, whose: str) -> None:
    bad = int((~logits.isfinite().all(1)).sum())
    if bad:
        raise WorkError(f"evaluation: the {whose}'s answers to {bad} of {len(logits)} samples are not finite")


def _labels(batch: Batch) -> Tensor:
    """Class indices [B]; `UNLABELLED` for a batch without targets."""
    if batch.target is None:
        return torch.full((len(batch),), UNLABELLED, dtype=torch.int64)
    if batch.target.ndim != 1 or batch.target.is_floating_point():
        raise InputError(
            "evaluation: targets must be class indices [B], not mixed; "
            f"got {list(batch.target.shape)} {batch.target.dtype}"
        )
    return batch.target.long()


def _indices(batch: Batch) -> Tensor:
    """Number of each sample, [B]; -1 where the batch carries none."""
    return torch.full((len(batch),), -1) if batch.index is None else batch.index.long()


def _order(index: Tensor) -> Tensor:
    """Rows in the order of the data set; as they came when no batch carried an index."""
    if bool((index == -1).all()):
        return torch.arange(len(index))
    if bool((index == -1).any()):
        raise InputError("evaluation: some batches carry an index and some do not; give it to all or none")
    ordered, rows = index.sort(stable=True)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.numel():
        raise WorkError(f"evaluation: sample {int(twice[0])} was counted more than once ({len(twice)} such)")
    return rows


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else math.nan


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None
