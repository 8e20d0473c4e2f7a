"""Holistic knowledge: a sample together with its nearest samples, told apart from others by contrast.

S. Zhou, Y. Wang, D. Chen, J. Chen, X. Wang, C. Wang, J. Bu, Distilling Holistic Knowledge with Graph Neural
Networks, ICCV 2021, https://arxiv.org/abs/2108.05507.

Each network's embedding e goes through a linear layer of its own, which is learned, and is made of length 1.
Each network's batch is a graph as well: every sample is joined to the k samples, itself among them, whose
predictions are most alike. A graph convolution of the topology-adaptive kind, learned too, adds the
neighbourhood:

    h = W [e; A e; …; A^H e] + b, of length 1;   A_ij = 1/k where j is one of the k of i, else 0

Two banks hold e of all n training samples, one for each network. With InfoNCE over a positive and K others,

    N(x, m, bank) = − log( exp(x·m / τ) / (exp(x·m / τ) + Σ_j exp(x·bank_j / τ)) )
    L = (1/B) Σ_i [ N(e_s, bank_t,i, bank_t) + N(e_t, bank_s,i, bank_s)
                  + N(h_s, m(h_t), bank_t) + N(h_t, m(h_s), bank_s) ]

where m(h) of a sample is its row of the bank mixed with h, `smoothing` · bank_i + (1 − `smoothing`) · h, of
length 1 and without a gradient. Then the rows of the batch move,
bank_i ← momentum · bank_i + (1 − momentum) · e, again of length 1.

Conventions. This follows the authors' code, which has the first two terms beside those of the graph. Likeness
is the cosine of the softmax of the logits. Where a batch has fewer than k samples, all are neighbours (the
code then leaves the graph out). Banks start uniform in a cube around zero and of length 1.

The K others are drawn uniformly from the samples of other classes, as the code does, with replacement, so K
may exceed their number; where labels are not known, from all samples but the one itself. No edge has a
weight, as in the code; the paper's comparison of other graph networks is left out.

Published: weight 3 beside 1 · cross-entropy on CIFAR-100, 128 dimensions, K = 16384, τ = 0.07, k = 8, H = 1,
momentum 0.9, smoothing 0.75, of what enters the classifier.

Beware. Batches must carry `index`, and the banks take 8 · n · dimension bytes. The loss depends on the batch
as a whole: one that is worked off in parts has a graph for each part. On several processes the graph is that
of all samples together; each must see as many. In eval mode nothing is remembered. Half precision: the linear
layers follow autocast, the rest is float32.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.knowledge import Batch, Knowledge
from limbeck.methods._gather import everyones, place
from limbeck.methods._layers import linear
from limbeck.methods._memory import Strangers, check_rows, random_bank, remember, rows_of, scores
from limbeck.methods._parts import check_count, check_number, flat, paired, taught, widen
from limbeck.methods.base import Method, Probe

__all__ = ["HolisticGraph", "holistic_graph"]


def holistic_graph(
    student: Tensor,
    teacher: Tensor,
    student_bank: Tensor,
    teacher_bank: Tensor,
    index: Tensor,
    others: Tensor,
    *,
    smoothing: float = 0.75,
    temperature: float = 0.07,
) -> Tensor:
    """InfoNCE of each side's embeddings against the other side's bank, both added.

    Args:
        student: embeddings of length 1, [B, D].
        teacher: the same of the teacher, [B, D].
        student_bank: remembered embeddings of all samples, [n, D]; gets no gradient.
        teacher_bank: the same of the teacher, [n, D].
        index: the samples' own rows of the banks, [B].
        others: the rows with which they are contrasted, [B, K].
        smoothing: the share of the remembered row in the positive, in [0, 1]; the rest is the other side's
            embedding.
        temperature: τ > 0.

    Returns:
        A scalar >= 0, mean over the batch.

    Raises:
        ValueError: the shapes do not belong together.
    """
    if (
        student.ndim != 2
        or student.shape != teacher.shape
        or student_bank.shape != teacher_bank.shape
        or student_bank.ndim != 2
        or student_bank.shape[1] != student.shape[1]
        or index.shape != student.shape[:1]
        or others.ndim != 2
        or len(others) != len(student)
    ):
        raise ValueError(
            "holistic_graph needs embeddings [B, D], banks [samples, D], their rows [B] and others [B, K]; "
            f"got student {list(student.shape)}, teacher {list(teacher.shape)}, banks "
            f"{list(student_bank.shape)} and {list(teacher_bank.shape)}, rows {list(index.shape)}, others "
            f"{list(others.shape)}"
        )
    ours, theirs = widen(student), widen(teacher)
    losses = []
    for mine, other, bank in ((ours, theirs, teacher_bank), (theirs, ours, student_bank)):
        known = smoothing * bank.detach()[index] + (1 - smoothing) * other.detach()
        positive = (mine * F.normalize(known, dim=1)).sum(1) / temperature
        found = torch.cat([positive[:, None], scores(mine, bank, others, temperature)], 1)
        losses.append((found.logsumexp(1) - positive).mean())
    return torch.stack(losses).sum()


def _neighbours(logits: Tensor, count: int) -> Tensor:
    """A [B, B]: 1/k from each sample to the k most like it, itself always among them."""
    rows = F.normalize(widen(logits).detach().softmax(1), dim=1)
    with torch.autocast(rows.device.type, enabled=False):
        alike = rows @ rows.T
    alike = alike + 2 * torch.eye(len(rows), dtype=alike.dtype, device=alike.device)
    count = min(count, len(rows))
    return torch.zeros_like(alike).scatter(1, alike.topk(count, dim=1).indices, 1 / count)


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(widen(rows), dim=1, eps=1e-6)


class HolisticGraph(Method):
    """InfoNCE of samples and of their neighbourhoods against two memory banks (Zhou et al. 2021).

    Args:
        dimension: width of the embeddings that are compared.
        negatives: K, the number of random samples with which each sample is contrasted.
        neighbours: k, the number of samples, itself among them, to which each is joined.
        hops: H, how far the graph convolution reaches.
        temperature: τ > 0.
        momentum: the share of the old row when a bank is updated, in [0, 1).
        smoothing: the share of the remembered row in the positive of the graph's terms, in [0, 1).

    Raises:
        ValueError: an option is out of range; in `setup`, the number of samples is not known or batches do
            not number theirs; later, a batch without `index`.
    """

    paper = (
        "Zhou, Wang, Chen, Chen, Wang, Wang, Bu (2021), Distilling Holistic Knowledge with Graph Neural "
        "Networks, https://arxiv.org/abs/2108.05507"
    )
    aliases = ("hkd",)
    kind: ClassVar[Literal["relation"]] = "relation"
    pairs: ClassVar[Literal["one"]] = "one"
    random = True
    stateful = True
    compares_samples = True
    published: ClassVar[Mapping[str, object]] = {
        "weight": 3.0,
        "dimension": 128,
        "negatives": 16384,
        "neighbours": 8,
        "hops": 1,
        "temperature": 0.07,
        "momentum": 0.9,
        "smoothing": 0.75,
    }
    prefers = "embedding"

    student_bank: Tensor
    teacher_bank: Tensor
    strangers: Strangers

    def __init__(
        self,
        dimension: int = 128,
        negatives: int = 16384,
        neighbours: int = 8,
        hops: int = 1,
        temperature: float = 0.07,
        momentum: float = 0.9,
        smoothing: float = 0.75,
    ) -> None:
        super().__init__()
        self.dimension = check_count("dimension", dimension)
        self.negatives = check_count("negatives", negatives)
        self.neighbours = check_count("neighbours", neighbours)
        self.hops = check_count("hops", hops)
        self.temperature = check_number("temperature", temperature, above=0)
        self.momentum = check_number("momentum", momentum, least=0, below=1)
        self.smoothing = check_number("smoothing", smoothing, least=0, below=1)
        self.embeddings = nn.ModuleList()
        self.graphs = nn.ModuleList()
        self.register_buffer("student_bank", torch.empty(0, self.dimension))
        self.register_buffer("teacher_bank", torch.empty(0, self.dimension))

    def setup(self, probe: Probe) -> None:
        samples = check_rows("holistic_graph", probe)
        pair = paired("holistic_graph", probe.student, probe.teacher)[0]
        features = [flat("holistic_graph", f) for f in pair]
        width, generator = self.dimension, probe.generator
        self.embeddings = nn.ModuleList(
            linear(f.shape[1], width, generator, gain="linear").to(f) for f in features
        )
        self.graphs = nn.ModuleList(
            linear((1 + self.hops) * width, width, generator, gain="linear").to(f) for f in features
        )
        self.student_bank, self.teacher_bank = (random_bank(samples, width, f, generator) for f in features)
        self.strangers = Strangers(samples, probe.targets)

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        answers = (student, taught("holistic_graph", teacher))
        pair = paired("holistic_graph", *answers)[0]
        samples = len(self.student_bank)
        index = rows_of("holistic_graph", batch, samples)
        others = self.strangers.draw(index, self.negatives)
        own = slice(place() * len(index), (place() + 1) * len(index))
        everyone, alone, around = [], [], []
        for embed, graph, feature, answer in zip(self.embeddings, self.graphs, pair, answers, strict=True):
            rows, logits = everyones(_unit(embed(flat("holistic_graph", feature))), answer.logits.detach())
            everyone.append(rows)
            alone.append(rows[own])
            around.append(_unit(graph(self._hop(rows, _neighbours(logits, self.neighbours))))[own])
        losses = [
            holistic_graph(
                ours,
                theirs,
                self.student_bank,
                self.teacher_bank,
                index,
                others,
                smoothing=share,
                temperature=self.temperature,
            )
            for (ours, theirs), share in ((alone, 1.0), (around, self.smoothing))
        ]
        if self.training:
            (index,) = everyones(index)
            remember(self.student_bank, index, everyone[0], self.momentum)
            remember(self.teacher_bank, index, everyone[1], self.momentum)
        return torch.stack(losses).sum()

    def _hop(self, rows: Tensor, joins: Tensor) -> Tensor:
        """The rows and what reaches them over 1 to H joins, side by side: [B, (1 + H) · D]."""
        reached = [rows]
        with torch.autocast(rows.device.type, enabled=False):
            for _ in range(self.hops):
                reached.append(joins.to(rows.dtype) @ reached[-1])
        return torch.cat(reached, 1)
