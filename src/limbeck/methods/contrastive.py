"""Contrastive representation distillation: a sample is recognised by the other network's embedding of it.

Y. Tian, D. Krishnan, P. Isola, Contrastive Representation Distillation, ICLR 2020,
https://arxiv.org/abs/1910.10699.

Both embeddings, e_s of the student and e_t of the teacher, go through a linear layer of their own, which is
learned, and are made of length 1. Two banks hold the embeddings of all n training samples, one for each side.
A sample i is compared with its own row of the other side's bank and with K rows j drawn at random:

    p(e, m) = exp(e·m / τ) / Z
    L = (1/B) Σ_i [ ℓ(e_s(i), bank_t) + ℓ(e_t(i), bank_s) ]
    ℓ(e, bank) = − log( p_i / (p_i + K/n) ) − Σ_j log( (K/n) / (p_j + K/n) ),   p_j = p(e, bank_j)

Then the rows of the batch move: bank_i ← momentum · bank_i + (1 − momentum) · e(i), again of length 1.

Conventions. Z is n times the mean of exp(e·m / τ) over the first batch, one number for each side, and is kept
from then on. Banks start uniform in a cube around zero and of length 1 (the authors draw them so that their
length is 1 on average). Everything is computed on logarithms, without the 1e-7 that the authors add to
denominators. The K rows are drawn uniformly from the samples of other classes, as the authors' code for CIFAR
does, but always with replacement, so K may exceed their number. Where labels are not known (a sample without
one, or a loop from Python, which does not show all labels beforehand), a sample is compared with all but
itself. Half precision: the linear layers follow autocast, the rest is float32.

Published: weight 0.8 beside 1 · cross-entropy on CIFAR-100, 128 dimensions, K = 16384, τ = 0.07, momentum
0.5, of what enters the classifier.

Beware. Batches must carry `index`, and the banks take 8 · n · dimension bytes. Samples are remembered as they
were last seen: strong augmentation makes the rows less alike. In eval mode nothing is remembered. On several
processes the banks and Z are those of one process with the whole batch; each must see as many samples. Where
a batch is worked off in parts, Z is that of the first part.
"""

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones
from limbeck.methods._layers import linear
from limbeck.methods._memory import Strangers, check_rows, random_bank, remember, rows_of, scores
from limbeck.methods._parts import check_count, check_number, flat, paired, widen
from limbeck.methods.base import Method, Probe

__all__ = ["Contrastive", "contrastive"]


def contrastive(
    student: Tensor,
    teacher: Tensor,
    student_bank: Tensor,
    teacher_bank: Tensor,
    drawn: Tensor,
    *,
    log_normalizers: Tensor | None = None,
    temperature: float = 0.07,
) -> Tensor:
    """Noise-contrastive estimation of each side's samples against the other side's bank, both added.

    Args:
        student: embeddings of length 1, [B, D].
        teacher: the same of the teacher, [B, D].
        student_bank: remembered embeddings of all samples, [n, D]; gets no gradient.
        teacher_bank: the same of the teacher, [n, D].
        drawn: numbers of rows of the banks, [B, 1 + K]: first the sample itself, then the others.
        log_normalizers: logarithms of Z for the student's and the teacher's embeddings, [2]; None takes
            this batch's own.
        temperature: τ > 0.

    Returns:
        A scalar >= 0, mean over the batch.

    Raises:
        ValueError: the shapes do not belong together.
    """
    width = student.shape[-1]
    if (
        student.ndim != 2
        or student.shape != teacher.shape
        or student_bank.shape != teacher_bank.shape
        or student_bank.ndim != 2
        or student_bank.shape[1] != width
        or drawn.ndim != 2
        or len(drawn) != len(student)
        or drawn.shape[1] < 2
    ):
        raise ValueError(
            "contrastive needs embeddings [B, D], banks [samples, D] and rows [B, 1 + K]; got student "
            f"{list(student.shape)}, teacher {list(teacher.shape)}, banks {list(student_bank.shape)} and "
            f"{list(teacher_bank.shape)}, rows {list(drawn.shape)}"
        )
    both = (
        scores(widen(student), teacher_bank, drawn, temperature),
        scores(widen(teacher), student_bank, drawn, temperature),
    )
    samples = len(student_bank)
    return _estimation(
        both, _normalizers(both, samples) if log_normalizers is None else log_normalizers, samples
    )


def _normalizers(both: tuple[Tensor, Tensor], samples: int) -> Tensor:
    """Logarithms of both Z over the samples of all processes, [2]."""
    means = torch.stack([s.detach().flatten().logsumexp(0) - math.log(s.numel()) for s in both])
    (means,) = everyones(means[None])
    return means.logsumexp(0) - math.log(len(means)) + math.log(samples)


def _estimation(both: tuple[Tensor, Tensor], log_normalizers: Tensor, samples: int) -> Tensor:
    """Both sides' losses from the scores [B, 1 + K], added, mean over the batch."""
    others = both[0].shape[1] - 1
    losses = []
    for side, log_z in zip(both, log_normalizers, strict=True):
        odds = side - log_z - math.log(others / samples)  # log( p / (K/n) )
        losses.append(-F.logsigmoid(odds[:, 0]) - F.logsigmoid(-odds[:, 1:]).sum(1))
    return torch.stack(losses).sum(0).mean()


class Contrastive(Method):
    """Noise-contrastive estimation against two memory banks (Tian et al. 2020).

    Args:
        dimension: width of the embeddings that are compared.
        negatives: K, the number of random samples with which each sample is compared.
        temperature: τ > 0.
        momentum: the share of the old row when a bank is updated, in [0, 1).

    Raises:
        ValueError: an option is out of range; in `setup`, the number of samples is not known or batches do
            not number theirs; later, a batch without `index`.
    """

    paper = (
        "Tian, Krishnan, Isola (2020), Contrastive Representation Distillation, "
        "https://arxiv.org/abs/1910.10699"
    )
    aliases = ("crd",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["one"]] = "one"
    random = True
    stateful = True
    published: ClassVar[Mapping[str, object]] = {
        "weight": 0.8,
        "dimension": 128,
        "negatives": 16384,
        "temperature": 0.07,
        "momentum": 0.5,
    }
    prefers = "embedding"

    student_bank: Tensor
    teacher_bank: Tensor
    log_normalizers: Tensor
    strangers: Strangers

    def __init__(
        self,
        dimension: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        self.dimension = check_count("dimension", dimension)
        self.negatives = check_count("negatives", negatives)
        self.temperature = check_number("temperature", temperature, above=0)
        self.momentum = check_number("momentum", momentum, least=0, below=1)
        self.embeddings = nn.ModuleList()
        self.register_buffer("student_bank", torch.empty(0, self.dimension))
        self.register_buffer("teacher_bank", torch.empty(0, self.dimension))
        # Infinite: not estimated yet.
        self.register_buffer("log_normalizers", torch.full((2,), math.inf))

    def setup(self, probe: Probe) -> None:
        samples = check_rows("contrastive", probe)
        features = [flat("contrastive", f) for f in paired("contrastive", probe.student, probe.teacher)[0]]
        self.embeddings = nn.ModuleList(
            linear(f.shape[1], self.dimension, probe.generator, gain="linear").to(f) for f in features
        )
        self.student_bank, self.teacher_bank = (
            random_bank(samples, self.dimension, f, probe.generator) for f in features
        )
        self.strangers = Strangers(samples, probe.targets)
        self.log_normalizers = self.log_normalizers.to(features[0])

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        pair = paired("contrastive", student, teacher)[0]
        samples = len(self.student_bank)
        index = rows_of("contrastive", batch, samples)
        ours, theirs = (
            F.normalize(widen(embed(flat("contrastive", feature))), dim=1, eps=1e-6)
            for embed, feature in zip(self.embeddings, pair, strict=True)
        )
        drawn = torch.cat([index[:, None], self.strangers.draw(index, self.negatives)], 1)
        both = (
            scores(ours, self.teacher_bank, drawn, self.temperature),
            scores(theirs, self.student_bank, drawn, self.temperature),
        )
        estimate = _normalizers(both, samples)
        log_z = torch.where(self.log_normalizers.isinf(), estimate, self.log_normalizers)
        loss = _estimation(both, log_z, samples)
        if self.training:
            self._learn(index, ours, theirs, log_z)
        return loss

    @torch.no_grad()
    def _learn(self, index: Tensor, ours: Tensor, theirs: Tensor, log_z: Tensor) -> None:
        """Take up what this batch says, from all processes alike."""
        index, ours, theirs = everyones(index, ours.detach(), theirs.detach())
        remember(self.student_bank, index, ours, self.momentum)
        remember(self.teacher_bank, index, theirs, self.momentum)
        self.log_normalizers.copy_(log_z)
