"""Stages: one objective after another, in one training that resumes as a whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import limbeck
from limbeck import Frozen, Offline, Recipe, Runtime, Stage, Tapped, Term, Trainer, Training
from limbeck.assembly import setup
from limbeck.errors import InputError
from limbeck.feeding import Feeding
from limbeck.knowledge import Batch, Knowledge
from limbeck.methods.base import Method, Probe
from limbeck.staging import Staged, first_stages, joined, spans
from limbeck.students.small import convnet

WHOLE = Training(epochs=16)


class Copier(Method):
    """A method whose own layer is trained first, by the teacher alone."""

    paper = "Nobody (2024), Nothing, https://example.org/nothing"
    kind = "feature"
    pairs = "one"
    stage = "layers"

    def __init__(self) -> None:
        super().__init__()
        self.coder: nn.Sequential | None = None

    @property
    def prepared(self) -> nn.Module | None:
        return self.coder

    def setup(self, probe: Probe) -> None:
        assert probe.teacher is not None
        width = probe.teacher.features[0].shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            self.coder = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width))

    def prepare(self, teacher: Knowledge, batch: Batch) -> Tensor:
        assert self.coder is not None
        return (self.coder(teacher.features[0]) - teacher.features[0]).square().mean()

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        assert self.coder is not None
        assert teacher is not None
        with torch.no_grad():
            goal = self.coder(teacher.features[0]).mean((1, 2, 3))
        return (student.features[0].mean((1, 2, 3)) - goal).square().mean()


class Alone(Method):
    """A method that has the student to itself first."""

    paper = "Nobody (2024), Nothing, https://example.org/nothing"
    stage = "alone"

    def forward(self, student: Knowledge, teacher: Knowledge | None, batch: Batch) -> Tensor:
        assert teacher is not None
        return (student.logits - teacher.logits).square().mean()


def batches(count: int = 3) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(8, 1, 8, 8, generator=generator), torch.arange(8) % 10) for _ in range(count)]


def test_stages_of_the_student_are_part_of_its_epochs_and_others_come_on_top() -> None:
    objective = joined(
        {"cross_entropy": 1.0},
        [
            Stage("a", 2, {"kd": 1.0}),
            Stage("b", 3, {"kd": 1.0}, schedule={"name": "constant"}),
        ],
    )
    (one, first), (two, second), (three, last) = spans(objective, WHOLE)
    assert (first.first, first.last, first.origin, one.epochs) == (0, 2, 0, 16)
    assert (second.first, second.last, second.origin, two.epochs) == (2, 5, 2, 3)
    assert two.schedule == {"name": "constant"}
    assert (last.first, last.last, last.stage, three) == (5, 16, "", WHOLE)
    copier = Term(Copier(), layers={"a": "b"})
    layers = joined({"cross_entropy": 1.0, "copy": copier}, [Stage("c", 4, {"copy": copier}, "layers")])
    (own, apart), (_, rest) = spans(layers, WHOLE)
    assert (own.epochs, apart.student, apart.first, apart.last, apart.extra) == (4, False, 0, 4, 0)
    assert (rest.first, rest.last, rest.extra) == (0, 16, 4)


def test_without_stages_a_training_is_one_span() -> None:
    ((settings, span),) = spans(joined({"cross_entropy": 1.0}), WHOLE)
    assert settings is WHOLE
    assert (span.stage, span.first, span.last) == ("", 0, 16)


def test_stages_that_leave_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="take 16 epochs of the student's 16"):
        spans(joined({"cross_entropy": 1.0}, [Stage("a", 16, {"kd": 1.0})]), WHOLE)
    with pytest.raises(InputError, match="no term is left for after it"):
        first_stages("objective", {"alone": Alone}, 8)
    with pytest.raises(InputError, match="leaves none for the other terms"):
        first_stages("objective", {"alone": Alone, "x": Copier}, 1)
    with pytest.raises(InputError, match="has no layers to train by themselves"):
        Staged({"cross_entropy": 1.0}, [Stage("a", 1, {"kd": 1.0}, "layers")])


def test_a_term_goes_on_only_where_it_is_the_same() -> None:
    hot, cool = Term(temperature=4.0), Term(temperature=1.0)
    staged = Staged({"kd": hot}, [Stage("a", 1, {"kd": cool}), Stage("b", 1, {"kd": Term(temperature=4.0)})])
    kept = []
    for number in range(3):
        staged.enter(number)
        kept.append(staged.current.method("kd"))
    assert [method.temperature for method in kept] == [1.0, 4.0, 4.0]
    assert kept[1] is kept[2]
    with pytest.raises(InputError, match="trained for nothing"):
        Staged({"cross_entropy": 1.0}, [Stage("a", 1, {"ft": Term(layers={"a": "b"})}, "layers")])
    with pytest.raises(InputError, match="must stand in the objective itself"):
        Staged({"cross_entropy": 1.0}, [Stage("a", 1, {"simkd": Term(layers={"a": "b"})})])


def test_the_stages_of_papers_are_written_out() -> None:
    kinds: dict[str, type[Method]] = {"ce": limbeck.methods.get("kd"), "ab": Alone, "ft": Copier}
    left, stages = first_stages("objective", kinds, 16)
    assert left == ["ce", "ft"]
    assert [(s.term, s.epochs, s.trains) for s in stages] == [("ab", 2, "student"), ("ft", 2, "layers")]
    assert first_stages("objective", kinds, 0) == (["ce", "ab", "ft"], [])


def test_steps_of_all_stages_have_numbers_that_rise() -> None:
    copier = Term(Copier(), layers={"a": "b"})
    objective = joined(
        {"cross_entropy": 1.0, "copy": copier},
        [Stage("a", 2, {"kd": 1.0}), Stage("c", 3, {"copy": copier}, "layers"), Stage("d", 1, {"kd": 1.0})],
    )
    reached = 0
    for settings, span in spans(objective, WHOLE):
        assert span.first + span.extra == reached
        assert span.last is not None
        reached = span.last + span.extra
        assert settings.epochs >= span.last - span.origin
    assert reached == 16 + 3
    assert all(span.first == span.last == 0 for _, span in spans(objective, Training(epochs=0)))


def test_layers_are_trained_first_by_a_schedule_that_fits() -> None:
    """The training's warm-up and cool-down may be longer than the stage; then they keep their shares."""
    copier = Term(Copier(), layers={"a": "b"})
    objective = joined({"cross_entropy": 1.0, "copy": copier}, [Stage("c", 2, {"copy": copier}, "layers")])
    schedule = {"name": "cosine", "warmup_epochs": 4, "cooldown_epochs": 2, "final": 0.1}
    (first, _), (rest, _) = spans(objective, Training(epochs=16, schedule=schedule))
    assert first.schedule == {**schedule, "warmup_epochs": 0.5, "cooldown_epochs": 0.25}
    assert rest.schedule == schedule
    short = {**schedule, "warmup_epochs": 1, "cooldown_epochs": 1}
    assert spans(objective, Training(epochs=16, schedule=short))[0][0].schedule == short


@pytest.mark.parametrize("trains", ["student", "layers"])
def test_a_stages_own_schedule_must_fit_into_the_stage(trains: Any) -> None:
    copier = Term(Copier(), layers={"a": "b"})

    def found(epochs: int, warmup: float, whole: int = 16) -> Any:
        stage = Stage("c", epochs, {"copy": copier}, trains, schedule={"warmup_epochs": warmup})
        return spans(joined({"cross_entropy": 1.0, "copy": copier}, [stage]), Training(epochs=whole))

    with pytest.raises(
        InputError, match=r"stages\.c\.schedule\.warmup_epochs: 3 must fit into stages\.c\.epochs: 2"
    ):
        found(2, 3)
    assert found(2, 2)[0][0].epochs == 2
    assert found(2, 3, whole=0)
    if trains == "layers":  # which may take longer than the student
        assert found(20, 18)[0][0].epochs == 20


def test_the_teacher_is_asked_only_in_stages_that_listen_to_it() -> None:
    torch.manual_seed(0)
    teacher = convnet(width=8)
    asked = []
    teacher.register_forward_hook(lambda module, given, answer: asked.append(len(answer)))
    twelve = [(torch.rand(12, 1, 8, 8), torch.arange(12) % 10)] * 3
    limbeck.distill(
        teacher, convnet(width=4), twelve, epochs=4, progress=False, control=False,
        objective={"cross_entropy": 1.0}, stages=[Stage("a", 1, {"kd": 1.0})],
    )  # fmt: skip
    assert asked.count(12) == 3, "in the steps of the first stage; to be set up, it sees fewer samples"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, r"stages\.a\.epochs: must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, "got 1.5"),
        ({"trains": "layer"}, "must be student or layers, got 'layer'"),
        ({"objective": 1.0}, "must be terms by name"),
    ],
)
def test_what_a_stage_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Stage(**{"name": "a", "epochs": 1, "objective": {"kd": 1.0}, **given})


def test_one_method_cannot_stand_under_two_names() -> None:
    copier = Copier()
    with pytest.raises(InputError, match="is the very method of one"):
        joined({"one": Term(copier, layers={"a": "b"}), "two": Term(copier, layers={"a": "b"})})


def test_what_does_not_fit_is_told_before_the_control_is_trained() -> None:
    def data() -> Any:
        yield from batches(2)
        trained.append(1)

    class Watched:
        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            return data()

    trained: list[int] = []
    with pytest.raises(InputError, match="take 2 epochs of the student's 2"):
        limbeck.distill(
            convnet(width=8), convnet(width=4), Watched(), epochs=2, progress=False,
            objective={"cross_entropy": 1.0}, stages=[Stage("a", 2, {"kd": 1.0})],
        )  # fmt: skip
    assert not trained


def test_a_stage_trains_what_it_says_and_nothing_else() -> None:
    torch.manual_seed(0)
    teacher, student = convnet(width=8), convnet(width=4)
    copier = Copier()
    term = Term(copier, weight=0.5, layers={"stage1": "stage1"})
    objective = joined({"cross_entropy": 1.0, "copy": term}, [Stage("copy", 2, {"copy": term}, "layers")])
    network, frozen = Tapped(student, objective.student_taps), Frozen(Tapped(teacher, objective.teacher_taps))
    setup(network, objective, frozen, Batch(batches()[0][0]), 24, 10, 0)
    before = {n: v.clone() for n, v in student.state_dict().items()}
    (settings, span), _ = spans(objective, Training(epochs=1))
    objective.enter(0)
    trainer = Trainer(Offline(network, objective, frozen), settings, Runtime("cpu"), 3, 0, span)
    assert len(list(trainer.fit(Feeding(batches(), 1, 0)))) == 6
    assert copier.coder is not None
    assert int(copier.coder.state_dict()["1.num_batches_tracked"]) == 6
    assert all(torch.equal(v, before[n]) for n, v in student.state_dict().items()), "the student learned"
    objective.enter(1)
    assert not any(p.requires_grad for p in copier.coder.parameters())
    assert {id(p) for p in objective.trained()} == set()


def test_what_was_prepared_stays_as_it_is() -> None:
    torch.manual_seed(0)
    found = []
    for epochs in (1, 3):
        copier = Copier()
        term = Term(copier, weight=0.5, layers={"stage1": "stage1"})
        torch.manual_seed(0)
        limbeck.distill(
            convnet(width=8), convnet(width=4), batches(), epochs=epochs, progress=False, control=False,
            objective={"cross_entropy": 1.0, "copy": term},
            stages=[Stage("copy", 2, {"copy": term}, "layers")],
        )  # fmt: skip
        assert copier.coder is not None
        found.append(copier.coder.state_dict())
    assert all(torch.equal(v, found[1][n]) for n, v in found[0].items())


RECIPE: dict[str, Any] = {
    "name": "staged",
    "student": {"model": "cifar:resnet8"},
    "teacher": {"model": "cifar:resnet8", "weights": "some.pt"},
    "data": {"source": "digits"},
    "objective": {"cross_entropy": 1.0, "kd": 1.0},
    "train": {"epochs": 16},
}


def test_a_recipe_of_stages_alone_has_the_last_as_its_objective() -> None:
    stages = [
        {"name": "hints", "epochs": 3, "objective": {"hint": {"layers": "auto"}}},
        {"epochs": 5, "objective": {"cross_entropy": 0.1, "kd": 0.9}},
    ]
    given = {key: value for key, value in RECIPE.items() if key != "objective"} | {"stages": stages}
    recipe = Recipe.from_dict({**given, "train": {}})
    assert recipe.train.epochs == 8
    assert list(recipe.objective) == ["cross_entropy", "kd"]
    assert recipe.stages is not None
    assert [(s.name, s.epochs) for s in recipe.stages] == [("hints", 3)]
    again = Recipe.from_dict(recipe.dump())
    assert again.dump() == recipe.dump()
    with pytest.raises(InputError, match="is 7, and the stages in which the student learns take 8"):
        Recipe.from_dict({**given, "train": {"epochs": 7}})
    with pytest.raises(InputError, match="the last one stands for the objective, so it has no schedule"):
        Recipe.from_dict({**given, "stages": [{**stages[1], "schedule": {"name": "constant"}}]})


def test_methods_bring_their_stages_into_a_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine_staged.py").write_text(
        "from limbeck.methods.kd import KD\n\n\nclass First(KD):\n    '''Mine.'''\n\n    stage = 'alone'\n"
    )
    file = tmp_path / "recipe.yaml"
    written = Recipe.from_dict(
        {**RECIPE, "objective": {"cross_entropy": 1.0, "mine_staged:First": 0.5},
         "variants": {"both": {"objective": {"cross_entropy": 1.0, "mine_staged:First": 2.0}}}},
        file,
    )  # fmt: skip
    assert list(written.objective) == ["cross_entropy", "mine_staged:First"], "until a run begins"
    written = written.written_out()
    for part, weight in ((written, 0.5), ((written.variants or {})["both"], 2.0)):
        assert list(part.objective) == ["cross_entropy"]
        assert part.stages is not None
        assert [(s.name, s.epochs, s.trains) for s in part.stages] == [("mine_staged-First", 2, "student")]
        assert part.stages[0].objective["mine_staged:First"].weight == weight
    assert Recipe.from_dict(written.dump(), file).dump() == written.dump()
    kept = Recipe.from_dict(
        {**RECIPE, "objective": {"cross_entropy": 1.0, "mine_staged:First": 0.5}, "stages": []}, file
    )
    assert list(kept.written_out().objective) == ["cross_entropy", "mine_staged:First"]


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [{"name": "a", "epochs": 16, "objective": {"kd": 1.0}}],
            "stages: take 16 of the student's 16 epochs",
        ),
        ([{"name": "a", "epochs": 0, "objective": {"kd": 1.0}}], "stages.0.epochs"),
        ([{"name": "a", "epochs": 1, "objective": {"kdd": 1.0}}], "stages.0.objective.kdd.*kd"),
        (
            [{"name": "a", "epochs": 1, "objective": {"kd": 1.0}, "trains": "layers"}],
            "has no layers that are",
        ),
        ([{"name": "a", "epochs": 1, "objective": {"kd": 1.0}}] * 2, 'stages.0.name: "a" is there twice'),
        ([{"name": "a", "epochs": 1, "objective": {"kd": 1.0}, "epoch": 1}], "stages.0.*epoch"),
    ],
)
def test_what_is_wrong_with_stages_is_said(stages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_dict({**RECIPE, "stages": stages})
