"""Every method that is found keeps the contract; and every check of the contract can fail."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import methods
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods import testing
from limbeck.methods.base import Method, Probe
from limbeck.methods.testing import CHECKS, Subject, check_method

SHAPES: dict[str, dict[str, Any]] = {
    "flow_of_solution": {
        "student": [(6, 8, 8), (7, 4, 4), (5, 2, 2)],
        "teacher": [(6, 4, 4), (7, 4, 4), (5, 4, 4)],
    },
    "simple_projector": {"student": [(9, 8, 8)], "teacher": [(9, 4, 4)]},
}
"""For methods that need other features than maps of unlike width and size: `student=`, `teacher=`."""

OPTIONS: dict[str, dict[str, Any]] = {
    "contrastive": {"dimension": 6, "negatives": 12},
    "holistic_graph": {"dimension": 6, "negatives": 12, "neighbours": 3},
    "semantic_calibration": {"dimension": 6},
}
"""For methods whose defaults are too large for made-up batches."""

VARIANTS = [
    ("cross_entropy", {"label_smoothing": 0.1}, {}),
    ("decoupled_kd", {"alpha": 0.0}, {}),
    ("kd", {"multi_label": True}, {}),
    ("dist", {"beta": 0.0, "temperature": 4.0}, {}),
    ("dist", {"gamma": 0.0}, {}),
    ("multi_level_kd", {"temperatures": [4]}, {}),
    ("token_skew_kl", {"skew": 0.0}, {}),
    ("token_skew_reverse_kl", {"skew": 0.9}, {}),
    ("token_generalized_jsd", {"beta": 0.0}, {}),
    ("token_generalized_jsd", {"beta": 1.0, "temperature": 2.0}, {}),
    (
        "contrastive",
        {"dimension": 6, "negatives": 3, "momentum": 0.0},
        {"student": [(6,)], "teacher": [(9,)]},
    ),
    (
        "holistic_graph",
        {"dimension": 6, "negatives": 60, "hops": 2, "smoothing": 0.0},
        {"student": [(6,)], "teacher": [(9,)]},
    ),
    ("semantic_calibration", {"dimension": 6}, {"student": [(6, 4, 4)], "teacher": [(9, 4, 4)]}),
    ("relational", {"angle": 0.0}, {"student": [(6,)], "teacher": [(9,)]}),
    ("correlation_congruence", {"dimension": None}, {"student": [(6,)], "teacher": [(6,)]}),
    ("instance_graph", {"edges": 0.0}, {"student": [(6, 4, 4), (12,)], "teacher": [(9, 4, 4), (5, 7)]}),
    ("attention_transfer", {"p": 1.0}, {}),
    ("channel_wise", {"temperature": 1.0}, {"student": [(6, 4, 4)], "teacher": [(6, 2, 2)]}),
    ("class_attention", {"size": 1, "normalize": False}, {}),
    ("inter_channel_correlation", {}, {"student": [(6, 4, 4)], "teacher": [(6, 2, 2)]}),
    ("variational_information", {"initial_variance": 0.01}, {}),
    ("activation_boundary", {"margin": 0.3}, {"student": [(9, 4, 4)], "teacher": [(9, 4, 4)]}),
    ("factor_transfer", {"rate": 0.25, "p": 2.0, "normalize": False}, {}),
    (
        "singular_vectors",
        {"vectors": 2},
        {"student": [(6, 8, 8), (7, 1, 1), (9, 4, 4)], "teacher": [(6, 4, 4), (10, 2, 2), (9, 2, 2)]},
    ),
    ("hint", {"activation": "relu"}, {}),
    ("margin_relu", {}, {"student": [(6, 4, 4)], "teacher": [(9, 4, 4)]}),
    ("review_kd", {"pooled": False, "width": 4}, {}),
    ("masked_generative", {"mask": "positions"}, {"student": [(9, 4, 4)], "teacher": [(9, 2, 2)]}),
    ("projector_norm", {"alpha": 1.0}, {"student": [(6,)], "teacher": [(9,)]}),
    ("projector_norm", {}, {"student": [(4, 6)], "teacher": [(9, 2, 2)]}),
    ("hint", {}, {"student": [(6,)], "teacher": [(9,)]}),
    ("hint", {}, {"student": [(4, 6)], "teacher": [(4, 9)]}),
]
"""Options and shapes beside the defaults: method, options, shapes."""

NAMES = methods.names()


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_contract(
    name: str, check: Callable[[Subject], str | None], exempt: dict[str, dict[str, str]]
) -> None:
    reason = check(Subject(methods.get(name), OPTIONS.get(name, {}), **SHAPES.get(name, {})))
    if reason is not None:
        exempt[check.__name__][name] = reason


@pytest.mark.parametrize(("name", "options", "shapes"), VARIANTS)
def test_contract_of_variants(name: str, options: dict[str, Any], shapes: dict[str, Any]) -> None:
    for check in CHECKS:
        check(Subject(methods.get(name), options, **shapes))


def test_hint_with_batch_norm_keeps_all_but_the_halves() -> None:
    """BatchNorm in the regressor makes the loss depend on the batch as a whole, as its docstring says."""
    subject = Subject(methods.get("hint"), {"normalize": True})
    for check in CHECKS:
        if check is not testing.same_in_halves:
            check(subject)
    with pytest.raises(AssertionError, match="halves give another loss"):
        testing.same_in_halves(subject)


class Good(Method):
    """A third party's method: mean squared difference of logits, nothing else."""

    paper = "Nobody (2024), Nothing, https://example.org/nothing"
    minimum = 0.0

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        if isinstance(power, bool) or not isinstance(power, float) or not math.isfinite(power):
            raise ValueError(f"power must be a finite number, got {power!r}")
        self.power = power

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        if teacher is None:
            raise ValueError("needs a teacher")
        return self.distance(student.logits, teacher.logits.detach(), batch)

    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return (ours - theirs).square().mean()


def test_a_third_partys_method_passes_by_the_public_helper() -> None:
    exempt = check_method(Good, power=2.0)
    assert exempt == {"skips_unlabelled": "looks at no labels"}


class Overflows(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return (ours.softmax(1).log() - theirs.softmax(1).log()).square().mean()


class Leaks(Good):
    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        if teacher is None:
            raise ValueError("needs a teacher")
        return (student.logits - teacher.logits).square().mean()


class Spoils(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        theirs.mul_(0.5)
        return (ours - theirs).square().mean()


class Teachless(Good):
    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        return student.logits.square().mean()


class AsksForLabels(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        if batch.target is None:
            raise ValueError("no labels")
        return (ours - theirs).square().mean()


class CountsUnlabelled(Good):
    hard_targets = True

    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        if batch.target is None or batch.target.ndim != 1:
            raise ValueError("needs class indices")
        return (ours - theirs).gather(1, batch.target.clamp(min=0)[:, None]).square().mean()


class NotLeast(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return (ours - theirs).sum()


class FirstCountsMore(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return (ours - theirs)[0].square().mean()


class Sums(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return (ours - theirs).square().sum()


class DrawsGlobally(Good):
    def setup(self, probe: Probe) -> None:
        self.scale = nn.Linear(5, 5)

    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        return (self.scale(ours) - theirs).square().mean()


class Forgets(Good):
    def setup(self, probe: Probe) -> None:
        self.seen = 0.0

    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        self.seen += 1.0
        return (ours - theirs).square().mean() * self.seen


class AsksTheHost(Good):
    def distance(self, ours: Tensor, theirs: Tensor, batch: Batch) -> Tensor:
        far = (ours - theirs).square().mean()
        return far if far.item() > 1e-3 else 2 * far


class TakesAnything(Good):
    def __init__(self, power: object = 1.0) -> None:
        super().__init__()


class Unknown(Good):
    """No link."""

    paper = "Somebody"


class ReadsMemory(Good):
    kind = "feature"
    pairs = "one"

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        (feature,) = student.features
        stored = feature.permute(0, 2, 3, 1) if feature.stride(1) == 1 else feature
        return (stored.flatten(1) * torch.arange(stored[0].numel())).square().mean()


class LearnsAlways(Good):
    stage = "layers"

    def setup(self, probe: Probe) -> None:
        with torch.random.fork_rng(devices=[]):
            self.layer = nn.Linear(5, 5)

    @property
    def prepared(self) -> nn.Module | None:
        return self.layer

    def prepare(self, teacher: Knowledge, batch: Batch) -> Tensor:
        return (self.layer(teacher.logits) - teacher.logits).square().mean()


BROKEN: list[tuple[type[Method], Callable[[Subject], str | None], str]] = [
    (Overflows, testing.finite, "the loss is .* with saturated answers"),
    (Leaks, testing.teaches_the_student_only, "gradient flows to the teacher"),
    (Spoils, testing.teaches_the_student_only, "changed in place"),
    (Teachless, testing.needs_what_it_declares, "a missing teacher is not refused"),
    (AsksForLabels, testing.needs_what_it_declares, "missing labels|no labels"),
    (CountsUnlabelled, testing.skips_unlabelled, "unlabelled samples count"),
    (NotLeast, testing.least_when_equal, "less than the declared minimum"),
    (FirstCountsMore, testing.same_in_any_order, "order of the samples changes the loss"),
    (Sums, testing.same_in_halves, "halves give another loss"),
    (DrawsGlobally, testing.repeats_by_seed, "global generator"),
    (Forgets, testing.continues_from_its_state, "resumed method gives another loss"),
    (ReadsMemory, testing.same_in_any_memory_order, "another memory order changes the loss"),
    (LearnsAlways, testing.prepares_its_own_layers, "learn outside it"),
    (AsksTheHost, testing.compiles_in_one_graph, "does not compile in one graph"),
    (TakesAnything, testing.refuses_bad_options, "is not refused"),
    (Unknown, testing.says_what_it_is, "has no link"),
]


@pytest.mark.parametrize(("cls", "check", "message"), BROKEN, ids=lambda v: v.__name__ if callable(v) else "")
def test_a_broken_promise_is_found(
    cls: type[Method], check: Callable[[Subject], str | None], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check(Subject(cls))


def test_every_check_is_shown_to_fail() -> None:
    assert {check for _, check, _ in BROKEN} == set(CHECKS)


def test_the_helper_names_the_broken_promise() -> None:
    with pytest.raises(AssertionError, match="Sums: same_in_halves: "):
        check_method(Sums)


def test_checks_leave_torchs_generator_alone() -> None:
    before = torch.get_rng_state()
    check_method(methods.get("kd"))
    assert torch.equal(before, torch.get_rng_state())
