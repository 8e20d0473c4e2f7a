"""What makes a run faster is tried where it may repay itself, and holds when the run goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limbeck import backends, equipping, pace
from limbeck.build import load_data
from limbeck.equipping import Equipping
from limbeck.errors import InputError
from limbeck.knowledge import Knowledge
from limbeck.objective import Objective, Term
from limbeck.pace import Compiling, Work
from limbeck.progress import Silent
from limbeck.recipe import Recipe
from limbeck.running import run
from limbeck.schemes import Offline
from limbeck.students.small import convnet
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.runtime import Runtime

BASE: dict[str, Any] = {
    "name": "paced",
    "teacher": {"model": "py:limbeck.students.small:convnet", "width": 8, "weights": "teacher.safetensors"},
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 32, "samples": 160},
    "objective": {"cross_entropy": 0.1, "kd": {"weight": 0.9, "temperature": 2}},
    "train": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.02}, "threads": 1},
    "control": False,
    "export": {"formats": []},
}


class Said(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def __contains__(self, part: str) -> bool:
        return any(part in line for line in self.lines)


class Kept(dict[str, Any]):
    """Choices in memory."""

    def chosen(self, what: str) -> Any:
        return self.get(what)

    def choose(self, what: str, value: Any) -> None:
        self[what] = value


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(convnet(10, 1, 8).state_dict(), tmp_path / "teacher.safetensors")
    return tmp_path


def recipe(beside: Path, **changed: Any) -> Recipe:
    settled = json.loads(json.dumps(BASE))
    for place, value in changed.items():
        *before, last = place.split("__")
        part = settled
        for key in before:
            part = part[key]
        part[last] = value
    return Recipe.from_dict(settled, beside / "recipe.yaml")


def losses(out: Path) -> list[dict[str, float]]:
    return [json.loads(line)["losses"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def teacher() -> Frozen:
    torch.manual_seed(1)
    return Frozen(Tapped(convnet(10, 1, 8)))


def scheme() -> Offline:
    torch.manual_seed(2)
    return Offline(Tapped(convnet(10, 1, 4)), Objective({"kd": 1.0}), teacher())


def work(beside: Path, **changed: Any) -> Work:
    wanted = recipe(beside, **changed)
    return Work(wanted, load_data(wanted), Runtime("cpu"))


# Compiling


def timed(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    left = iter(times)
    monkeypatch.setattr(pace, "seconds_of_step", lambda *given: next(left))
    monkeypatch.setattr(Offline, "compile", lambda self: None)


def test_a_short_training_is_not_compiled_and_nothing_is_tried(beside: Path) -> None:
    found, said = work(beside), Said()
    kept = Kept()
    Compiling(found, said, kept).settle(scheme)
    assert (found.runtime.compile, kept, said.lines) == (False, {"compile": False}, [])


@pytest.mark.parametrize(("compiled", "pays"), [(0.8, True), (0.98, False), (1.3, False)])
def test_a_long_training_is_compiled_where_that_is_faster(
    beside: Path, monkeypatch: pytest.MonkeyPatch, compiled: float, pays: bool
) -> None:
    monkeypatch.setattr(pace, "COMPILES_FROM", 9.0)
    timed(monkeypatch, 1.0, compiled)
    found, said, kept = work(beside), Said(), Kept()  # two epochs of five steps of a second
    Compiling(found, said, kept).settle(scheme)
    assert found.runtime.compile is pays
    assert kept == {"compile": pays}
    assert f"a compiled step takes {compiled:.2f} of a plain one" in said


def test_what_was_settled_is_not_tried_again(beside: Path) -> None:
    found = work(beside)
    Compiling(found, Said(), Kept(compile=True)).settle(None)
    assert found.runtime.compile is True


def test_a_compiler_that_fails_leaves_the_run_as_it_is(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "COMPILES_FROM", 0.0)
    timed(monkeypatch, 1.0)

    def broken(self: Offline) -> None:
        raise RuntimeError("no compiler\nand more")

    monkeypatch.setattr(Offline, "compile", broken)
    found, said, kept = work(beside), Said(), Kept()
    Compiling(found, said, kept).settle(scheme)
    assert kept == {"compile": False}
    assert said.lines[-1] == "not compiled: RuntimeError: no compiler"


@pytest.mark.parametrize("word", [True, False])
def test_what_the_recipe_says_is_not_tried(beside: Path, word: bool) -> None:
    kept = Kept()
    Compiling(work(beside, train__compile=word), Said(), kept).settle(scheme)
    assert kept == {}


def test_a_step_is_timed_without_learning(beside: Path) -> None:
    found, made = work(beside), scheme()
    before = {n: v.clone() for n, v in made.named_parameters()}
    assert pace.seconds_of_step(made, found.batch(), found.runtime) > 0
    assert all(torch.equal(before[n], p) and p.grad is None for n, p in made.named_parameters())


@pytest.mark.slow
def test_a_run_that_was_compiled_by_itself_has_the_losses_of_a_plain_one(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(recipe(beside, train__compile=False), beside / "plain")
    monkeypatch.setattr(pace, "COMPILES_FROM", 0.0)
    monkeypatch.setattr(pace, "WORTH", 1e9)
    said = Said()
    run(recipe(beside), beside / "compiled", display=said)
    assert "compiled: a compiled step takes" in said
    assert json.loads((beside / "compiled/result.json").read_text())["environment"]["compile"] is True
    for one, other in zip(losses(beside / "plain"), losses(beside / "compiled"), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


# The teacher's backend


class Fake:
    """A backend that is named, and counts how often it is asked."""

    def __init__(self, name: str, network: Tapped) -> None:
        self.name, self.network, self.asked = name, network, 0

    def __call__(self, input: Tensor) -> Knowledge:
        self.asked += 1
        with torch.no_grad():
            answer: Knowledge = self.network(input)
        return answer

    def close(self) -> None:
        return


def equip(beside: Path, kept: Kept, said: Said, **changed: Any) -> Callable[[Frozen], None]:
    return Equipping(work(beside, **changed), said, kept, Objective({"kd": Term(temperature=3.0)}))


def chosen(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Let the search find a backend; the names that are built."""
    built: list[str] = []

    def build(name: str, network: Tapped, example: Tensor, **more: Any) -> Fake:
        built.append(name)
        return Fake(name, network)

    def choose(network: Tapped, example: Tensor, **more: Any) -> backends.Choice:
        return backends.Choice(name, {}, {}, Fake(name, network))  # type: ignore[arg-type]

    monkeypatch.setattr(backends, "build", build)
    monkeypatch.setattr(backends, "choose", choose)
    return built


def test_a_short_run_asks_the_network_itself(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, "compile")
    kept, said = Kept(), Said()
    equip(beside, kept, said)(teacher())
    assert (kept, said.lines) == ({"backend": "eager"}, [])


def test_a_long_run_takes_the_fastest_and_goes_on_with_it(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = chosen(monkeypatch, "onnxruntime")
    monkeypatch.setattr(equipping, "TRIES_FROM", 0.0)
    kept, taught = Kept(), teacher()
    found = work(beside)
    batch = found.batch()
    plain = taught(batch)
    equip(beside, kept, Said())(taught)
    assert kept == {"backend": "onnxruntime"}
    torch.testing.assert_close(taught(batch).logits, plain.logits)
    assert taught._backend.asked == 1
    assert built == []
    # A resumed run builds what was settled and searches no more.
    monkeypatch.setattr(backends, "choose", None)
    equip(beside, kept, Said())(teacher())
    assert built == ["onnxruntime"]


def test_the_gradient_passes_through_the_network_itself(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen(monkeypatch, "compile")
    taught = teacher()
    equip(beside, Kept(), Said(), teacher__backend="compile")(taught)
    asked = work(beside).batch()
    images = asked.input.requires_grad_()
    taught(asked, differentiable=True).logits.sum().backward()
    assert taught._backend.asked == 0
    assert images.grad is not None


def test_backends_of_other_layers_are_settled_apart(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen(monkeypatch, "compile")
    monkeypatch.setattr(equipping, "TRIES_FROM", 0.0)
    kept = Kept()
    found = equip(beside, kept, Said())
    found(teacher())
    found(Frozen(Tapped(convnet(10, 1, 8), ["stage1"])))
    assert kept == {"backend": "compile", "backend stage1": "compile"}


def test_what_cannot_run_the_teacher_is_told_before_any_work(beside: Path) -> None:
    hints = {"cross_entropy": 1.0, "hint": {"weight": 1.0, "layers": "auto"}}
    wanted = recipe(beside, teacher__backend="int8", objective=hints)
    with pytest.raises(InputError, match=r"teacher.backend: int8 gives logits alone"):
        run(wanted, beside / "out")
    assert not (beside / "out" / "recipe.yaml").exists()


@pytest.mark.slow
def test_a_run_by_another_library_has_the_losses_of_a_plain_one(beside: Path) -> None:
    run(recipe(beside), beside / "plain")
    run(recipe(beside, teacher__backend="onnxruntime"), beside / "other")
    for one, other in zip(losses(beside / "plain"), losses(beside / "other"), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
def test_eight_bits_tell_their_drift_and_have_a_cache_of_their_own(
    beside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_CACHE", str(beside / "caches"))
    said = Said()
    run(recipe(beside, teacher__backend="int8", teacher__cache=1), beside / "int8", display=said)
    assert "teacher in 8 bits (int8:" in said
    assert "at temperature 2" in said
    run(recipe(beside, teacher__cache=1), beside / "exact")
    manifests = [json.loads(p.read_text()) for p in (beside / "caches").rglob("manifest.json")]
    assert sorted(found["made_from"]["teacher"]["backend"] for found in manifests) == ["exact", "int8"]
    for one, other in zip(losses(beside / "exact"), losses(beside / "int8"), strict=True):
        assert other == pytest.approx(one, rel=0.1)


# Several processes


class Second:
    """The second of two processes: hears what the first one knows."""

    main = False

    def __init__(self, *words: str) -> None:
        self.words = list(words)
        self.waited = 0

    def told(self, word: str) -> str:
        return self.words.pop(0)

    def first(self, action: Callable[[], object]) -> None:
        self.waited += 1


def test_a_process_that_comes_later_goes_the_way_of_the_first(beside: Path) -> None:
    """What the first one has written meanwhile must not let it leave out a step that all wait for."""
    kept = Kept(compile=True)
    second = Second("null")
    agreed = pace.Agreed(kept, second)  # type: ignore[arg-type]
    assert agreed.chosen("compile") is None
    agreed.choose("compile", False)
    assert (second.waited, kept) == (1, {"compile": True})
