"""Which layers of two networks belong together: `layers: auto`.

What is found depends on what the method prefers (`Method.prefers`):

- `embedding`: what enters the classifier;
- `map`: the last map [B, C, H, W] before it is pooled;
- `classified`: `map`, where both classifiers take its mean over places; else `embedding`;
- `stages`: the map at the end of every stage, from shallow to deep;
- `middle`: of these, the one in the middle, the second of three or four;
- `before_relu`: the ends of the stages as they are before their last ReLU;
- `flow`: what enters the first stage, and then `stages`.

What one network's stages are: `limbeck.layers`. Where both have equally many they are paired in order, as
published, whatever their resolutions. Else the last belong together, and before them those whose sides are
halved equally often, seen from the input. Where there are none, and with a transformer, whose blocks are all
of one resolution, those at equal relative depth belong together.

What was found stands in the run's own recipe, and is what a resumed run uses.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from limbeck import methods
from limbeck.build import make_student, make_teacher, probe_batch
from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.layers import MOST_STAGES, Layers, Stage
from limbeck.methods.base import Method
from limbeck.objective import Term
from limbeck.progress import Display, Silent
from limbeck.recipe import Recipe, TermSpec, of_control
from limbeck.taps import Tapped

__all__ = ["alike", "cautions", "pair", "settle_layers", "settle_terms"]


def settle_layers(recipe: Recipe, data: Data, display: Display | None = None) -> Recipe:
    """The recipe with `layers: auto` of every term written out.

    What was found is said on the display, and what the literature says against a term (`cautions`).

    Raises:
        InputError: a term's layers cannot be paired; the message says what to give.
    """
    terms = list(_terms(recipe))
    cautious = any(kind.unlike and not spec.silent for _, _, spec, kind in terms)
    if not cautious and not any(isinstance(spec.layers, str) for _, _, spec, _ in terms):
        return recipe
    screen = display or Silent()
    batch = probe_batch(data)
    built = make_student(recipe, data, recipe.seed_list[0])
    student = Tapped(built.model, (), built.adapter, who="student")
    teachers = {name: make_teacher(own, data, []).network for name, own in recipe.members().items()}
    if recipe.scheme.name == "own":
        teachers = {"": student}  # it is its own teacher
    apart = of_control(recipe)
    other = None if apart is None else make_teacher(apart, data, []).network
    found: dict[str, Any] = recipe.dump()
    for keys, name, spec, kind in terms:
        if isinstance(spec.layers, str):
            owner, sign, _ = spec.layers.rpartition("/")  # NAME/auto, where there are several teachers
            by = other if keys[0] == "control" else teachers.get(owner)
            pairs = _pairs(_place(keys, name), kind, student, by, batch)
            layers = {ours: f"{owner}{sign}{theirs}" for ours, theirs in pairs.items()}
            target: Any = found
            for key in keys:
                target = target[key]
            target[name]["layers"] = layers
            shown = ", ".join(f"{ours} ← {theirs}" for ours, theirs in layers.items())
            screen.say(f"{_place(keys, name)}: layers {shown}")
    for owner, teacher in teachers.items():
        for text in cautions(recipe, built.model, teacher.model, owner):
            screen.say(text)
    return Recipe.from_dict(found, recipe.path)


def settle_terms(
    terms: Mapping[str, Term | float], student: Tapped, teachers: Mapping[str, Tapped], batch: Batch
) -> dict[str, Term | float]:
    """Terms with `layers="auto"` written out.

    Args:
        terms: by name.
        student: the student.
        teachers: by name; of one teacher, the name is empty.
        batch: a few samples.

    Raises:
        InputError: a term's layers cannot be paired; the message says what to give.
    """
    settled: dict[str, Term | float] = {}
    for name, term in terms.items():
        settled[name] = term
        if isinstance(term, Term) and term.auto:
            known = term.method if isinstance(term.method, Method) else None
            kind = type(known) if known else methods.get(str(term.method or name), beside=term.beside)
            pairs = _pairs(f"objective.{name}", kind, student, teachers.get(term.owner), batch)
            layers = {s: f"{term.owner}/{t}" if term.owner else t for s, t in pairs.items()}
            settled[name] = Term(
                term.method, weight=term.weight, layers=layers, beside=term.beside, **term.options
            )
    return settled


Keys = tuple[str | int, ...]


def _terms(recipe: Recipe) -> Iterator[tuple[Keys, str, TermSpec, type[Method]]]:
    """All terms that are learnt from a teacher: the keys of their objective, name, entry and method."""
    for keys, terms in recipe.objectives().items():
        for name, spec in terms.items():
            kind = methods.get(spec.method or name, where=_place(keys, name), beside=recipe.beside)
            yield keys, name, spec, kind


def _place(keys: Keys, name: str) -> str:
    return ".".join(map(str, (*keys, name)))


def _pairs(
    where: str, kind: type[Method], student: Tapped, teacher: Tapped | None, batch: Batch
) -> dict[str, str]:
    if kind.pairs == "none":
        raise InputError(f"{where}.layers: this method compares no layers; leave the key out.")
    if teacher is None:
        raise InputError(f"{where}.layers: auto pairs the student's layers with a teacher's; there is none.")
    try:
        return pair(student, teacher, batch, kind.prefers)
    except InputError as error:
        raise InputError(f"{where}.layers: {error}") from None


def pair(student: Tapped, teacher: Tapped, batch: Batch, prefers: str = "map") -> dict[str, str]:
    """The layers of two networks that belong together.

    Args:
        student: asked about two samples in eval mode, without gradient.
        teacher: likewise.
        batch: a few samples.
        prefers: what to look for, as `Method.prefers` says.

    Returns:
        Pairs {student tap: teacher tap}, from shallow to deep.

    Raises:
        InputError: a network has no such layer.
    """
    ours, theirs = Layers(student, batch), Layers(teacher, batch)
    if prefers == "classified":
        prefers = "map" if ours.averages_last_map() and theirs.averages_last_map() else "embedding"
    if prefers == "embedding":
        return {ours.embedding(): theirs.embedding()}
    if prefers == "map":
        return {ours.last_map(): theirs.last_map()}
    stages = _matched(ours.stages(), theirs.stages())
    if prefers == "middle":
        stages = [stages[(len(stages) - 1) // 2]]
    if prefers == "before_relu":
        return {ours.before_relu(one): theirs.before_relu(other) for one, other in stages}
    pairs = {one.tap: other.tap for one, other in stages}
    stems = (ours.stem(), theirs.stem()) if prefers == "flow" else (None, None)
    return pairs if stems[0] is None or stems[1] is None else {stems[0]: stems[1], **pairs}


def _matched(ours: list[Stage], theirs: list[Stage]) -> list[tuple[Stage, Stage]]:
    """Stages of two networks in pairs, each in one pair at most, in order, the last two together."""
    if len(ours) != len(theirs) and (pairs := _of_one_resolution(ours, theirs)):
        return pairs
    count = min(len(ours), len(theirs), MOST_STAGES)
    return list(zip(_spread(ours, count), _spread(theirs, count), strict=True))


def _of_one_resolution(ours: list[Stage], theirs: list[Stage]) -> list[tuple[Stage, Stage]]:
    """The last stages, and those before them that halve their input's sides equally often; none: no such."""
    pairs = [(ours[-1], theirs[-1])]
    left = theirs[:-1]
    for one in reversed(ours[:-1]):
        same = [i for i, other in enumerate(left) if other.level == one.level is not None]
        if same:
            pairs.insert(0, (one, left[same[-1]]))
            left = left[: same[-1]]
    return pairs if len(pairs) > 1 else []


def _spread(stages: list[Stage], count: int) -> list[Stage]:
    """So many of them, at equal distances, the last one included."""
    return [stages[len(stages) * (i + 1) // count - 1] for i in range(count)]


def alike(student: nn.Module, teacher: nn.Module) -> bool:
    """Whether two networks are built alike: their classes go by one name, numbers aside.

    So are a ResNet and a ResNet50, or two VGGs, but not a ResNet and a WideResNet.
    """
    ours, theirs = (re.sub(r"\d+", "", type(model).__name__).lower() for model in (student, teacher))
    return ours == theirs


def cautions(recipe: Recipe, student: nn.Module, teacher: nn.Module | None, owner: str = "") -> list[str]:
    """What the literature says against terms of this recipe between these two networks.

    One sentence for each term whose method has been found to fail between networks that are built
    differently, where these are (`alike`). Of several teachers, `owner` is this one's name.
    """
    if teacher is None or alike(student, teacher):
        return []
    built = f"{type(student).__name__} and {type(teacher).__name__} are built differently"
    found: dict[type[Method], str] = {}
    for keys, name, spec, kind in _terms(recipe):
        if kind.unlike and not spec.silent and _is_of(owner, spec):
            found.setdefault(kind, f"{_place(keys, name)}: {built}. {kind.unlike}")
    return list(found.values())


def _is_of(owner: str, spec: TermSpec) -> bool:
    """Whether a term reads layers of this one of several teachers; a term without layers is of all."""
    taps = [spec.layers] if isinstance(spec.layers, str) else list((spec.layers or {}).values())
    return not owner or not taps or any(tap.partition("/")[0] == owner for tap in taps)
