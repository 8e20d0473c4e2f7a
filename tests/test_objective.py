"""Each term gets its own layers, weights follow their ramps, the control keeps the labels."""

import copy
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor, nn

from limbeck import functional, methods
from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe
from limbeck.methods.kd import KD
from limbeck.objective import Objective, Ramp, Term, temperature_of


class Distance(Method):
    """Squares of the differences of the features, and a note of what was seen."""

    kind: ClassVar[Literal["feature"]] = "feature"
    pairs: ClassVar[Literal["many"]] = "many"

    def __init__(self) -> None:
        super().__init__()
        self.probe: Probe | None = None

    def setup(self, probe: Probe) -> None:
        self.probe = probe

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        assert teacher is not None
        pairs = zip(student.features, teacher.features, strict=True)
        return torch.stack([(s - t).square().sum() for s, t in pairs]).sum()


class OnePair(Distance):
    pairs = "one"  # type: ignore[assignment]


class Counting(Method):
    """A label term with a memory."""

    kind: ClassVar[Literal["label"]] = "label"
    stateful = True

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        assert isinstance(self.seen, Tensor)
        self.seen += 1
        return 0 * student.logits.sum() + 1


def answers(features: int = 0, seed: int = 0) -> Knowledge:
    generator = torch.Generator().manual_seed(seed)
    return Knowledge(
        torch.randn(4, 3, generator=generator),
        tuple(torch.randn(4, 2 + i, generator=generator) for i in range(features)),
    )


BATCH = Batch(torch.zeros(4, 2), torch.tensor([0, 1, 2, 1]))


def losses(objective: Objective, student: Knowledge, teacher: Knowledge | None = None) -> dict[str, float]:
    return {name: float(v) for name, v in objective(student, teacher, BATCH).items()}


def test_the_sum_is_weighted_and_the_terms_are_not() -> None:
    objective = Objective({"cross_entropy": 0.25, "kd": Term(weight=2.0, temperature=3.0)})
    student, teacher = answers(seed=1), answers(seed=2)
    said = losses(objective, student, teacher)
    kd = float(functional.kd(student.logits, teacher.logits, temperature=3.0))
    assert BATCH.target is not None
    ce = float(functional.cross_entropy(student.logits, BATCH.target))
    assert list(said) == ["loss", "cross_entropy", "kd"]
    assert said["kd"] == kd
    assert said["cross_entropy"] == ce
    assert said["loss"] == pytest.approx(0.25 * ce + 2.0 * kd, rel=1e-6)


def test_a_term_may_have_a_name_of_its_own_and_come_twice() -> None:
    objective = Objective({"cool": Term("kd", temperature=1), "hot": Term("kd", temperature=9)})
    student, teacher = answers(seed=1), answers(seed=2)
    said = losses(objective, student, teacher)
    assert said["cool"] == float(functional.kd(student.logits, teacher.logits, temperature=1))
    assert said["hot"] == float(functional.kd(student.logits, teacher.logits, temperature=9))


@pytest.mark.parametrize(
    "name", ["values", "keys", "training", "type", "float", "a.b", "limbeck.methods.kd:KD", "forward"]
)
def test_any_name_will_do_for_a_term(name: str) -> None:
    objective = Objective({name: Term("limbeck.methods.kd:KD"), "kd": 1.0})
    assert isinstance(objective.method(name), KD)
    assert list(losses(objective, answers(), answers())) == ["loss", name, "kd"]
    assert list(objective.state_dict()) == []


def test_a_method_with_dots_needs_no_other_name() -> None:
    assert losses(Objective({"limbeck.methods.kd:KD": 1.0}), answers(), answers())["loss"] == 0


@pytest.mark.parametrize("name", ["loss", ""])
def test_two_names_are_taken(name: str) -> None:
    with pytest.raises(InputError, match="a term may not be called"):
        Objective({name: Term("kd")})


class TestLayers:
    def build(self) -> tuple[Objective, dict[str, Distance]]:
        found = {"near": Distance(), "far": Distance(), "one": OnePair()}
        terms: dict[str, Term | float] = {
            "near": Term(found["near"], layers={"s1": "t1", "s2": "t2"}),
            "kd": 1.0,
            "far": Term(found["far"], layers={"s3": "t2", "s1": "t3"}),
            "one": Term(found["one"], layers={"s2": "t2"}),
        }
        return Objective(terms), found

    def test_each_layer_is_read_once_whoever_wants_it(self) -> None:
        objective, _ = self.build()
        assert objective.student_taps == ["s1", "s2", "s3"]
        assert objective.teacher_taps == ["t1", "t2", "t3"]

    def test_each_term_gets_its_own_pairs_in_its_order(self) -> None:
        objective, _ = self.build()
        generator = torch.Generator().manual_seed(0)
        s1, s2, s3, t1, t2, t3 = torch.randn(6, 4, 2, generator=generator)
        student = Knowledge(torch.zeros(4, 3), (s1, s2, s3))
        teacher = Knowledge(torch.zeros(4, 3), (t1, t2, t3))
        said = losses(objective, student, teacher)

        def distance(a: Tensor, b: Tensor) -> float:
            return float((a - b).square().sum())

        assert said["near"] == pytest.approx(distance(s1, t1) + distance(s2, t2), rel=1e-6)
        assert said["far"] == pytest.approx(distance(s3, t2) + distance(s1, t3), rel=1e-6)
        assert said["one"] == pytest.approx(distance(s2, t2), rel=1e-6)

    def test_setup_shows_each_term_its_own_part_of_the_probe(self) -> None:
        objective, found = self.build()
        ours, theirs = [nn.Linear(1, 1) for _ in range(3)], [nn.Linear(1, 1) for _ in range(3)]
        student, teacher = answers(3, seed=1), answers(3, seed=2)
        objective.setup(Probe(student, teacher, BATCH, tuple(ours), tuple(theirs), samples=4, classes=3))
        seen = found["far"].probe
        assert seen is not None
        assert seen.student.features == (student.features[2], student.features[0])
        assert seen.teacher is not None
        assert seen.teacher.features == (teacher.features[1], teacher.features[2])
        assert seen.student_modules == (ours[2], ours[0])
        assert seen.teacher_modules == (theirs[1], theirs[2])
        assert (seen.samples, seen.classes) == (4, 3)

    def test_setup_without_a_teacher(self) -> None:
        objective = Objective({"cross_entropy": 1.0})
        objective.setup(Probe(answers(), None, BATCH))

    @pytest.mark.parametrize(
        ("term", "message"),
        [
            (Term("kd", layers={"a": "b"}), "objective.x.layers: this method compares no layers"),
            (Term("hint"), r"objective.x.layers: .* needs the layers of the student and of the teacher"),
            (Term(OnePair(), layers={"a": "b", "c": "d"}), "compares one pair of layers; got 2"),
            (Term(OnePair()), "needs the layers"),
        ],
    )
    def test_layers_that_do_not_fit_the_method_are_refused(self, term: Term, message: str) -> None:
        with pytest.raises(InputError, match=message):
            Objective({"x": term})


class TestWeights:
    @pytest.mark.parametrize(
        ("epoch", "wanted"), [(0, 1.0), (0.5, 0.875), (2, 0.5), (4, 0.0), (5, 0.0), (1e9, 0.0)]
    )
    def test_a_ramp_goes_in_a_straight_line_and_stays(self, epoch: float, wanted: float) -> None:
        assert Ramp(1.0, 0.0, 4).at(epoch) == wanted

    def test_a_ramp_of_no_length_is_at_its_end(self) -> None:
        assert Ramp(1.0, 3.0, 0).at(0) == 3.0

    def test_several_ramps_and_plain_weights_do_not_mix(self) -> None:
        objective = Objective(
            {
                "a": Term("kd", weight=Ramp(0, 8, 4)),
                "b": Term("kd", weight=10.0),
                "c": Term("kd", weight=Ramp(100, 0, 2)),
            }
        )
        student, teacher = answers(seed=1), answers(seed=2)
        kd = float(functional.kd(student.logits, teacher.logits))
        for epoch, total in ((0, 0 + 10 + 100), (1, 2 + 10 + 50), (1.5, 3 + 10 + 25), (9, 8 + 10 + 0)):
            objective.before_step(epoch)
            assert losses(objective, student, teacher)["loss"] == pytest.approx(total * kd, rel=1e-6)

    def test_before_the_first_step_a_ramp_is_at_its_start(self) -> None:
        objective = Objective({"kd": Term(weight=Ramp(0.5, 1, 3))})
        said = losses(objective, answers(seed=1), answers(seed=2))
        assert said["loss"] == pytest.approx(0.5 * said["kd"])

    def test_ramps_leave_no_trace_in_the_state(self) -> None:
        assert list(Objective({"kd": Term(weight=Ramp(0, 1, 3))}).state_dict()) == []

    def test_a_ramp_changes_without_compiling_anew(self) -> None:
        torch._dynamo.reset()
        objective = Objective({"cross_entropy": 1.0, "kd": Term(weight=Ramp(0, 4, 4))})
        double = copy.deepcopy(objective)
        double.compile(backend="aot_eager", fullgraph=True)
        torch._dynamo.utils.counters.clear()
        for epoch in (0, 1, 3):
            objective.before_step(epoch)
            double.before_step(epoch)
            student, teacher = answers(seed=epoch), answers(seed=9)
            assert losses(double, student, teacher) == pytest.approx(losses(objective, student, teacher))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1

    @pytest.mark.parametrize(
        "weight", ["1", None, float("nan"), float("inf"), {"weight": 1}, Ramp(0, float("nan"), 1)]
    )
    def test_a_weight_that_is_no_number_is_refused(self, weight: Any) -> None:
        with pytest.raises(
            InputError, match=r"objective\.kd\.weight: must be a finite number or a limbeck\.Ramp"
        ):
            Objective({"kd": Term(weight=weight)})
        if not isinstance(weight, Ramp):
            with pytest.raises(InputError, match=r"objective\.kd\.weight"):
                Objective({"kd": weight})


class TestLabelTerms:
    def weights(self, terms: dict[str, Term | float]) -> dict[str, Any]:
        kept = Objective(terms).label_terms()
        return {name: term.weight if isinstance(term, Term) else term for name, term in kept.items()}

    def test_they_are_rescaled_to_a_total_of_one(self) -> None:
        found = self.weights({"cross_entropy": 0.1, "kd": 0.9, "other": Term("ce", weight=0.3)})
        assert found == {"cross_entropy": pytest.approx(0.25), "other": pytest.approx(0.75)}

    def test_weights_of_zero_are_shared_evenly(self) -> None:
        assert self.weights({"cross_entropy": 0, "smooth": Term("ce", weight=0), "kd": 1}) == {
            "cross_entropy": 0.5,
            "smooth": 0.5,
        }

    def test_a_ramp_counts_by_its_end(self) -> None:
        terms: dict[str, Term | float] = {"ce": Term(weight=Ramp(5, 3, 2)), "b": Term("ce"), "kd": 1.0}
        assert self.weights(terms) == {"ce": 0.75, "b": 0.25}
        assert self.weights({"ce": Term(weight=Ramp(1, 0, 2)), "kd": 1.0}) == {"ce": 1.0}

    def test_there_may_be_none(self) -> None:
        assert self.weights({"kd": 1.0}) == {}

    def test_options_are_kept(self) -> None:
        kept = Objective({"x": Term("ce", weight=0.1, label_smoothing=0.3), "kd": 1.0}).label_terms()
        objective = Objective(kept)
        student = answers(seed=3)
        assert BATCH.target is not None
        wanted = functional.cross_entropy(student.logits, BATCH.target, label_smoothing=0.3)
        assert losses(objective, student) == {"loss": float(wanted), "x": float(wanted)}

    def test_a_built_method_is_copied_with_its_memory(self) -> None:
        """What the control's training leaves in it must not reach the student's."""
        objective = Objective({"counting": Term(Counting(), weight=0.5), "kd": 1.0})
        control = Objective(objective.label_terms())
        losses(control, answers())
        assert float(control.state_dict()["methods.counting.seen"]) == 1
        assert float(objective.state_dict()["methods.counting.seen"]) == 0


def test_who_needs_a_teacher() -> None:
    assert not Objective({"cross_entropy": 1.0, "smooth": Term("ce", label_smoothing=0.1)}).needs_teacher
    assert Objective({"cross_entropy": 1.0, "kd": 0.1}).needs_teacher


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "objective: give at least one term"),
        ({"kdd": 1.0}, r'objective.kdd: unknown method "kdd"\. Did you mean "kd"'),
        ({"kd": Term(temprature=1)}, r'objective.kd: unknown option of kd "temprature"'),
        ({"kd": Term(temperature=0)}, "objective.kd: kd: temperature must be"),
        (
            {"kd": Term(KD(), temperature=2)},
            r"objective.kd: options \(temperature\) are for a method given by",
        ),
    ],
)
def test_a_term_that_cannot_be_built_is_refused(terms: dict[str, Term | float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective(terms)


@pytest.mark.parametrize("name", methods.names())
def test_a_deep_copy_is_independent(name: str) -> None:
    cls = methods.get(name)
    layers = {"a": "b"} if cls.pairs != "none" else None
    objective = Objective({name: Term(weight=Ramp(0, 1, 1), layers=layers)})
    double = copy.deepcopy(objective)
    double.before_step(1)
    assert float(objective.ramped) == 0.0
    assert float(double.ramped) == 1.0
    assert double.method(name) is not objective.method(name)


def test_the_temperature_is_that_of_what_is_compared_with_a_teachers_response() -> None:
    kd = Term(temperature=4.0)
    others: dict[str, Term | float] = {
        "teacher_free": Term(temperature=20.0),  # of a label
        "channel_wise": Term(temperature=1.0, layers={"a": "b"}),  # of layers
        "contrastive": Term(temperature=0.07, layers={"a": "b"}),  # of a contrast between samples
    }
    assert temperature_of(Objective({**others, "kd": kd})) == 4.0
    assert temperature_of(Objective({"kd": kd, **others})) == 4.0
    assert temperature_of(Objective(others)) == 1.0
