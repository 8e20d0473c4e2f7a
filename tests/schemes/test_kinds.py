"""What every kind of scheme keeps, however it is made: found by its file, as users' recipes find it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from limbeck.arranging import scheme_for
from limbeck.build import load_data, make_objective, make_student, settings
from limbeck.commands.examining import examine
from limbeck.data import Data
from limbeck.data.loader import Loader
from limbeck.data.plans import Plan
from limbeck.errors import InputError
from limbeck.pairing import settle_layers
from limbeck.recipe import Recipe
from limbeck.schemes import Scheme, catalogue
from limbeck.schemes.base import Kind
from limbeck.schemes.online._peers import Peers
from limbeck.training.runtime import Runtime
from limbeck.training.trainer import Trainer

KINDS = [(family, kind) for family in catalogue.FAMILIES for kind in catalogue.kinds(family)]
each_kind = pytest.mark.parametrize(("family", "kind"), KINDS, ids=[kind for _, kind in KINDS])

EPOCHS, SAMPLES, BATCH = 4, 96, 32


def cls(family: str, kind: str) -> type[Kind]:
    return catalogue.get(family, kind)


def recipe(family: str, kind: str, **changes: Any) -> Recipe:
    """A small recipe with the objective that the paper uses."""
    given: dict[str, Any] = {
        "name": "kinds",
        "student": {"model": "py:limbeck.students.small:convnet", "width": 4, "depth": 3},
        "data": {"source": "digits", "samples": SAMPLES, "batch_size": BATCH, "views": {"crop": 1}},
        "objective": cls(family, kind).published["objective"],
        "scheme": {"name": family, "kind": kind},
        "train": {
            "epochs": EPOCHS,
            "device": "cpu",
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        },
        "export": {"formats": []},
    }
    return Recipe.from_dict({**given, **changes})


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data(recipe("own", "ema"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build(chosen: Recipe, data: Data, seed: int = 0) -> Scheme:
    student = make_student(chosen, data, seed)
    objective = make_objective(chosen.objective, chosen.beside)
    return scheme_for(chosen, "student", data, seed, student, objective, None)


def trainer(chosen: Recipe, data: Data) -> tuple[Trainer, Loader]:
    loader = Loader(data.train, Plan(0, len(data.train), BATCH))
    return Trainer(build(chosen, data), settings(chosen.train), Runtime("cpu"), len(loader), 0), loader


def trained(scheme: Scheme) -> dict[str, torch.Tensor]:
    return {**scheme.state_dict(), **{f"teacher: {n}": v for n, v in scheme.teacher_state().items()}}


@each_kind
def test_its_card_names_paper_and_objective(family: str, kind: str) -> None:
    card = catalogue.card(cls(family, kind))
    assert card["family"] == family
    assert re.search(r"\(\d{4}\), .*https://", card["paper"])
    assert card["summary"]
    assert card["doc"]
    assert set(card["published"]) <= {"objective", "peers", "schedule", *card["options"]}
    assert catalogue.get(family, card["aliases"][0]).__name__ == cls(family, kind).__name__


@each_kind
def test_it_says_who_teaches_whom_by_which_terms(family: str, kind: str, data: Data) -> None:
    lessons = build(recipe(family, kind), data).lessons()
    assert {"student"} <= {lesson.learner for lesson in lessons}
    named = {term for lesson in lessons for term in lesson.terms}
    assert set(recipe(family, kind).objective) <= named
    assert all(lesson.sources and lesson.terms for lesson in lessons)


@each_kind
def test_a_check_shows_it(family: str, kind: str) -> None:
    found = examine(recipe(family, kind))
    assert found["scheme"]["kind"] == kind
    assert all(isinstance(term["first_value"], float) for term in found["terms"].values())


@each_kind
def test_killed_in_the_middle_it_ends_as_never_killed(family: str, kind: str, data: Data) -> None:
    chosen = recipe(family, kind)
    whole, loader = trainer(chosen, data)
    for _ in whole.fit(loader):
        pass
    first, _ = trainer(chosen, data)
    for step in first.fit(loader):
        if step.number == 8:  # in the middle of an epoch
            break
    state = {k: v for k, v in first.state().items() if k != "ema"}
    copied = torch.load(_bytes(state), weights_only=True)
    second, _ = trainer(chosen, data)
    second.load_state({**copied, "ema": {}})
    for _ in second.fit(loader):
        pass
    wanted, found = trained(whole.scheme), trained(second.scheme)
    assert wanted.keys() == found.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


def _bytes(state: dict[str, Any]) -> Any:
    import io

    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


@each_kind
def test_the_student_starts_as_its_control_does(family: str, kind: str, data: Data) -> None:
    chosen = recipe(family, kind)
    plain = make_student(chosen, data, 0).model.state_dict()
    own = build(chosen, data).student.model.state_dict()
    tails = {name.rpartition("model.")[2]: value for name, value in own.items()} | own
    assert [name for name in plain if name not in tails or not torch.equal(plain[name], tails[name])] == []


@each_kind
def test_all_that_it_trains_gets_a_gradient_and_belongs_to_one_part(
    family: str, kind: str, data: Data
) -> None:
    chosen = recipe(family, kind)
    fitted, loader = trainer(chosen, data)
    got: set[str] = set()
    backward = fitted.runtime.backward

    def noting(loss: torch.Tensor) -> None:
        backward(loss)
        got.update(n for n, p in fitted.scheme.named_parameters() if p.grad is not None)

    fitted.runtime.backward = noting  # type: ignore[method-assign]
    for _ in fitted.fit(loader):
        pass
    learned = {name for name, p in fitted.scheme.named_parameters() if p.requires_grad}
    assert got == learned
    listed = [name for part in fitted.scheme.parts().values() for name, _ in part]
    assert sorted(listed) == sorted(learned)


@each_kind
def test_samples_without_a_label_may_lie_among_the_others(family: str, kind: str) -> None:
    chosen = recipe(family, kind)
    some = load_data(recipe(family, kind, data={**chosen.data.model_dump(), "labels": 40}))
    fitted, loader = trainer(chosen, some)
    for step in fitted.fit(loader):
        assert all(bool(torch.isfinite(value)) for value in step.losses.values())


@each_kind
def test_no_peer_changes_in_order_to_please_another(family: str, kind: str, data: Data) -> None:
    fitted, loader = trainer(recipe(family, kind), data)
    scheme = fitted.scheme
    if not isinstance(scheme, Peers) or not len(scheme.peers):
        pytest.skip("its learners are no networks apart")
    parts, step = scheme.parts(), next(iter(loader.steps(view=0)))
    scheme.train()
    scheme.before_step(EPOCHS - 0.5)
    losses = scheme(step[0], scheme.teach(step[0]))
    for name in scheme.names[1:]:
        own = [value for term, value in losses.items() if term.startswith(f"{name}.") and value.requires_grad]
        others = [p for owner, part in parts.items() if owner not in (name, "own") for _, p in part]
        found = torch.autograd.grad(sum(own), others, allow_unused=True, retain_graph=True)
        assert all(g is None or not g.any() for g in found), name


@each_kind
def test_it_compiles(family: str, kind: str, data: Data) -> None:
    chosen = recipe(family, kind)
    plain, loader = trainer(chosen, data)
    compiled, _ = trainer(chosen, data)
    torch._dynamo.reset()
    compiled.scheme.compile(backend="aot_eager")
    for number, (one, other) in enumerate(zip(plain.fit(loader), compiled.fit(loader), strict=True)):
        torch.testing.assert_close(one.losses, other.losses, rtol=1e-3, atol=1e-4)
        if number == 3:  # the first step of the second epoch: what remembers has something to remember
            break


@each_kind
def test_an_option_that_it_does_not_have_is_refused(family: str, kind: str) -> None:
    with pytest.raises(InputError, match=rf'scheme: unknown option of {kind} "colour"'):
        recipe(family, kind, scheme={"name": family, "kind": kind, "colour": "blue"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scheme": {"name": "online", "peers": 1}}, "a peer alone has nobody to learn from"),
        ({"scheme": {"name": "online", "peers": []}}, "a peer alone has nobody to learn from"),
        ({"scheme": "own"}, "say how the student teaches itself; one of"),
        ({"scheme": {"name": "online", "kind": "mutal"}}, 'Did you mean "mutual"'),
        ({"scheme": {"name": "own", "kind": "ema", "peers": 2}}, "own is one network that teaches itself"),
        ({"scheme": {"name": "own", "kind": "ema", "decay": 1.0}}, "decay must be"),
        ({"objective": {"cross_entropy": 1.0}}, "would teach nothing; add a term such as kd"),
        (
            {"objective": {"kd": 1.0, "cross_entropy": 1.0, "hint": {"layers": "auto"}}},
            "only responses are exchanged",
        ),
        (
            {"teacher": {"model": "py:limbeck.students.small:convnet", "blank": True}},
            "teacher: with the scheme online peers teach each other",
        ),
        (
            {"stages": [{"name": "a", "epochs": 1, "objective": {"cross_entropy": 1.0}}]},
            "stages: are for the scheme offline",
        ),
        (
            {"variants": {"a": {"objective": {"kd": 1.0}}}},
            "variants: compare objectives of the scheme offline",
        ),
        (
            {"scheme": {"name": "online", "peers": [{"model": "cifar:resnet8", "cache": {"views": 3}}]}},
            "scheme.peers.0.cache: only a teacher has this key",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        recipe("online", "mutual", **changes)
    assert message in str(caught.value)


def test_a_student_that_is_its_own_teacher_pairs_its_layers_with_their_like(data: Data) -> None:
    chosen = recipe(
        "own", "ema", objective={"cross_entropy": 1.0, "attention_transfer": {"weight": 10, "layers": "auto"}}
    )
    settled = settle_layers(chosen, data)
    layers = settled.objective["attention_transfer"].layers
    assert isinstance(layers, dict)
    assert layers
    assert all(ours == theirs for ours, theirs in layers.items())
    fitted, loader = trainer(settled, data)
    for step in fitted.fit(loader):
        assert bool(torch.isfinite(step.losses["attention_transfer"]))


@pytest.mark.parametrize(("family", "kind"), [("online", "kdcl"), ("online", "pcl"), ("own", "distortion")])
def test_mixed_samples_that_have_no_other_view_are_refused_before_anything_is_trained(
    family: str, kind: str
) -> None:
    given = {"source": "digits", "samples": SAMPLES, "batch_size": BATCH, "mix": {"mixup": 0.2}}
    with pytest.raises(InputError, match=r"data\.mix"):
        recipe(family, kind, data=given)
    if family == "online":
        recipe(family, kind, data=given, scheme={"name": family, "kind": kind, "views": False})


@pytest.mark.parametrize(
    ("family", "kind", "changes", "told"),
    [
        ("online", "codistillation", {}, "the first exchange of codistillation comes after 50 steps"),
        (
            "own",
            "distortion",
            {"data": {"source": "digits", "samples": SAMPLES, "views": {"crop": 0, "flip": False}}},
            "without data.views both are the same",
        ),
    ],
)
def test_a_check_warns_of_what_teaches_nothing(
    family: str, kind: str, changes: dict[str, Any], told: str
) -> None:
    assert any(told in warning for warning in examine(recipe(family, kind, **changes))["warnings"])
    assert not any(told in warning for warning in examine(recipe("own", "ema", **changes))["warnings"])


def test_no_more_cycles_than_epochs(data: Data) -> None:
    with pytest.raises(InputError, match=r"cycles must be at most the epochs of the training, 4, given 9"):
        build(recipe("own", "snapshot", scheme={"name": "own", "kind": "snapshot", "cycles": 9}), data)
    train = {"epochs": 4, "schedule": {"name": "cosine", "cycles": 9}}
    with pytest.raises(InputError, match=r"train\.schedule\.cycles: must be at most train\.epochs \(4\)"):
        recipe("own", "snapshot", train=train)
