"""Several objectives under one budget: what `limbeck compare` does.

Every variant's student starts from the same weights as the control's and sees the same batches in the same
order; the teacher is asked about the test set once. It is a run like any other: it resumes, and its trainings
can go on side by side. A student whose loss is not finite any more is given up, and the others go on.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from limbeck import methods
from limbeck.build import make_objective
from limbeck.conclusion import Taught, conclude_comparison
from limbeck.errors import DivergedError, InputError
from limbeck.methods.base import Method
from limbeck.objective import Objective
from limbeck.outcome import Outcome
from limbeck.progress import Display, Plain, Silent
from limbeck.recipe import Recipe, TermSpec
from limbeck.runfolder import RunFolder
from limbeck.runner import Run
from limbeck.training.checkpoint import write_atomically

__all__ = ["Comparison", "compare", "open_run", "with_methods"]


def compare(
    recipe: Recipe,
    out: Path | str,
    *,
    methods: Sequence[str] = (),
    resume: bool = False,
    jobs: int = 1,
    display: Display | None = None,
) -> dict[str, Any]:
    """Train the control and a student by every method, and set them side by side.

    Args:
        recipe: what they have in common; its `variants`, if it has any, are compared too.
        out: the folder; made when it does not exist.
        methods: names of methods, each with its published weight beside cross-entropy; see `with_methods`.
        resume: go on with a comparison that is there already. Methods may be added to it.
        jobs: how many trainings go on side by side.
        display: where progress is shown; None shows nothing.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: the recipe cannot work, nothing is to be compared, or the folder is taken.
        WorkError: the work failed; what was saved stays, and `resume` goes on from it.
        Interrupted: Ctrl-C; the state is saved.
    """
    folder = RunFolder(Path(out))
    if resume and folder.recipe.exists():
        recipe = _with_earlier(recipe, folder.load_recipe())
        methods = [word for word in methods if _title(recipe, word) not in (recipe.variants or {})]
    return Comparison(with_methods(recipe, methods), folder.path, display or Silent(), jobs).go(resume)


class Comparison(Run):
    """The work of one comparison: a run with a student for each of the recipe's variants."""

    @property
    def _taught(self) -> list[str]:
        return list(self.recipe.variants or {})

    def _objective(self, role: str) -> Objective:
        found = (self.recipe.variants or {}).get(role)
        if found is None:
            return super()._objective(role)
        return make_objective(found.objective, self.recipe.beside, found.stages)

    def _failure(self, role: str, seed: int) -> Path:
        """Where it stands why a student was given up."""
        return self.folder.phase(role, seed) / "failed.json"

    def _is_open(self, role: str, seed: int) -> bool:
        return super()._is_open(role, seed) and not self._failure(role, seed).exists()

    def train(self, role: str, seed: int) -> Outcome | None:
        """One training. A student that diverges is given up, and the others go on."""
        if role not in self._taught:
            return super().train(role, seed)
        failure = self._failure(role, seed)
        if failure.exists():
            return None
        try:
            return super().train(role, seed)
        except DivergedError as error:
            record = json.dumps({"message": str(error)})
            self.runtime.first(lambda: write_atomically(failure, record))
            self.display.say(f"{role}, seed {seed}: given up: {error}")
            return None

    def _given_up(self) -> dict[str, list[str]]:
        """By variant, why students were given up."""
        files = {(r, s): self._failure(r, s) for r in self._taught for s in self.recipe.seed_list}
        found: dict[str, list[str]] = {}
        for (role, seed), file in files.items():
            if file.exists():
                found.setdefault(role, []).append(f"seed {seed}: {json.loads(file.read_text())['message']}")
        return found

    def _conclude(self, outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
        teaching = self.teaching
        teacher = teaching.network([])
        taught = Taught(teacher, teaching.seconds, teaching.figures, teaching.each(teacher))
        return conclude_comparison(
            self.recipe, self.data, self.runtime, self.folder, taught, outcomes, self._given_up()
        )


def with_methods(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with one more variant for each of these methods.

    A method that the recipe's own objective uses keeps the weight, options and layers that it has there, and
    the label terms beside it. Any other gets its published weight and options, the label terms at the total
    weight that was published beside it, and `layers: auto` where it compares features. `kd+crd` joins methods
    in one objective, each at its published weight.

    Args:
        recipe: stays as it is.
        names: methods' names or aliases, or `package.module:Class`, joined by `+`.

    Raises:
        InputError: no such method, one is named twice, or there is nothing to compare.
    """
    known = recipe.dump()
    found: dict[str, Any] = dict(known.get("variants") or {})
    for word in names:
        title = _title(recipe, word)
        if title in found:
            raise InputError(f'--methods: "{word}" is there twice.')
        found[title] = {"objective": _published(recipe, _kinds(recipe, word))}
    if not found:
        raise InputError("compare: nothing to compare; give --methods NAME,NAME or variants in the recipe.")
    return Recipe.from_dict({**known, "variants": found}, recipe.path)


def _kinds(recipe: Recipe, word: str) -> list[type[Method]]:
    return [methods.get(part, where="--methods", beside=recipe.beside) for part in word.split("+")]


def _title(recipe: Recipe, word: str) -> str:
    """What a variant is called: its methods' own names, whichever alias was used."""
    return "-".join(methods.file_name(kind).rpartition(":")[2] for kind in _kinds(recipe, word))


def _with_earlier(recipe: Recipe, before: Recipe) -> Recipe:
    """The recipe with the variants that a comparison was started with; new ones come after them."""
    variants = {**(before.dump().get("variants") or {}), **(recipe.dump().get("variants") or {})}
    return Recipe.from_dict({**recipe.dump(), "variants": variants or None}, recipe.path)


def _published(recipe: Recipe, kinds: Sequence[type[Method]]) -> dict[str, Any]:
    """The terms of an objective with these methods."""
    terms = {
        name: (spec, methods.get(spec.method or name, beside=recipe.beside))
        for name, spec in recipe.objective.items()
        if not spec.silent
    }
    own = {kind: (name, spec) for name, (spec, kind) in terms.items() if kind.kind != "label"}
    labels = {
        name: spec for name, (spec, kind) in terms.items() if kind.kind == "label" and kind not in kinds
    }
    if all(kind in own for kind in kinds):
        chosen = {**labels, **{own[kind][0]: own[kind][1] for kind in kinds}}
        return {name: spec.model_dump(mode="json") for name, spec in chosen.items()}
    beside = max(kind.beside for kind in kinds)
    result = _rescaled(labels, beside) if labels else {"cross_entropy": {"weight": beside}} if beside else {}
    for kind in kinds:
        if kind in own:
            result[own[kind][0]] = own[kind][1].model_dump(mode="json")
        else:
            result[methods.file_name(kind)] = _term(kind)
    return result


def _rescaled(labels: dict[str, TermSpec], total: float) -> dict[str, Any]:
    """The label terms at another total weight."""
    weights = {name: spec.final for name, spec in labels.items()}
    whole = sum(weights.values())
    return {
        name: {**spec.model_dump(mode="json"), "weight": weights[name] / whole * total}
        for name, spec in labels.items()
        if total and whole
    }


def _term(kind: type[Method]) -> dict[str, Any]:
    allowed = methods.options(kind)
    term = {"weight": 1.0, **{k: v for k, v in kind.published.items() if k == "weight" or k in allowed}}
    return term if kind.pairs == "none" else {**term, "layers": "auto"}


@contextlib.contextmanager
def open_run(path: Path) -> Iterator[Run]:
    """A run that another process has claimed, ready to do one of its trainings.

    Raises:
        InputError: there is no run in the folder.
    """
    folder = RunFolder(path)
    recipe = folder.load_recipe()
    kind = Comparison if recipe.variants else Run
    run = kind(recipe, path, Plain())
    if recipe.train.threads is None:
        torch.set_num_threads(folder.threads(torch.get_num_threads()))
    with run.opened():
        yield run
