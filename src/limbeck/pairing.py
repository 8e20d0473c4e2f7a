"""Which layers of two networks belong together: `layers: auto`.

What is found depends on what the method prefers (`Method.prefers`):

- `embedding`: what enters the classifier, the last linear layer;
- `map`: the last map [B, C, H, W] of each network;
- `stages`: the last map of every resolution that both networks have, in halves of their own input's, from
  coarse to fine; the last maps belong together whatever their resolutions.

What was found stands in the run's own recipe, and is what a resumed run uses.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import methods
from limbeck.build import make_student, make_teacher, probe_batch
from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.methods.base import Method
from limbeck.objective import Term
from limbeck.progress import Display, Silent
from limbeck.recipe import Recipe
from limbeck.taps import Tapped

__all__ = ["pair", "settle_layers", "settle_terms"]


def settle_layers(recipe: Recipe, data: Data, display: Display | None = None) -> Recipe:
    """The recipe with `layers: auto` of every term written out.

    Raises:
        InputError: a term's layers cannot be paired; the message says what to give.
    """
    terms = {"objective": recipe.objective}
    terms |= {f"variants.{n}.objective": v.objective for n, v in (recipe.variants or {}).items()}
    open_terms = [
        (place, name, spec)
        for place, found in terms.items()
        for name, spec in found.items()
        if spec.layers == "auto"
    ]
    if not open_terms:
        return recipe
    screen = display or Silent()
    batch = probe_batch(data)
    built = make_student(recipe, data, recipe.seed_list[0])
    student = Tapped(built.model, (), built.adapter, who="student")
    teacher = None if recipe.teacher is None else make_teacher(recipe, data, []).network
    found: dict[str, Any] = recipe.dump()
    for place, name, spec in open_terms:
        where = f"{place}.{name}"
        kind = methods.get(spec.method or name, where=where, beside=recipe.beside)
        layers = _pairs(where, kind, student, teacher, batch)
        target = found
        for key in _steps(place):
            target = target[key]
        target[name]["layers"] = layers
        shown = ", ".join(f"{ours} ← {theirs}" for ours, theirs in layers.items())
        screen.say(f"{place}.{name}: layers {shown}")
    return Recipe.from_dict(found, recipe.path)


def settle_terms(
    terms: Mapping[str, Term | float], student: Tapped, teacher: Tapped | None, batch: Batch
) -> dict[str, Term | float]:
    """Terms with `layers="auto"` written out.

    Raises:
        InputError: a term's layers cannot be paired; the message says what to give.
    """
    settled: dict[str, Term | float] = {}
    for name, term in terms.items():
        settled[name] = term
        if isinstance(term, Term) and term.auto:
            known = term.method if isinstance(term.method, Method) else None
            kind = type(known) if known else methods.get(str(term.method or name), beside=term.beside)
            layers = _pairs(f"objective.{name}", kind, student, teacher, batch)
            settled[name] = Term(
                term.method, weight=term.weight, layers=layers, beside=term.beside, **term.options
            )
    return settled


def _steps(place: str) -> tuple[str, ...]:
    """The keys to a place; a variant's name may have dots."""
    if place == "objective":
        return (place,)
    return "variants", place.removeprefix("variants.").removesuffix(".objective"), "objective"


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
        student: asked about the batch in eval mode, without gradient.
        teacher: likewise.
        batch: a few samples.
        prefers: `embedding`, `map` or `stages`, as `Method.prefers` says.

    Returns:
        Pairs {student tap: teacher tap}.

    Raises:
        InputError: a network has no such layer.
    """
    if prefers == "embedding":
        return {_embedding(student, batch): _embedding(teacher, batch)}
    ours, theirs = _maps(student, batch), _maps(teacher, batch)
    pairs = [(list(ours.values())[-1], list(theirs.values())[-1])]
    if prefers == "stages":
        earlier = [level for level in ours if level in theirs and ours[level] != pairs[0][0]]
        pairs = [(ours[level], theirs[level]) for level in earlier if theirs[level] != pairs[0][1]] + pairs
    return dict(pairs)


def _embedding(network: Tapped, batch: Batch) -> str:
    """The tap of what enters the classifier."""
    heads = [name for name, module in network.model.named_modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise InputError(
            f"auto looks for what enters the {network.who}'s last linear layer, and it has none; give the "
            "layers, {student layer: teacher layer}."
        )
    seen = _watch(network, batch, {heads[-1]})
    if len(seen) != 1 or seen[0][1].ndim != 2:
        raise InputError(
            f'auto takes what enters the {network.who}\'s last linear layer "{heads[-1]}", which is not one '
            "vector for each sample; give the layers, {student layer: teacher layer}."
        )
    return f"{heads[-1]}:in"


def _maps(network: Tapped, batch: Batch) -> dict[int, str]:
    """The last map of each resolution, by how often the input's side is halved, in the order of the pass."""
    assert isinstance(batch.input, Tensor)
    names = {name for name, _ in network.model.named_modules() if name}
    seen = _watch(network, batch, names)
    calls = [name for name, _ in seen]
    found: dict[int, str] = {}
    side = max(batch.input.shape[-2:]) if batch.input.ndim == 4 else 0
    for name, output in seen:
        if output.ndim != 4 or max(output.shape[2:]) < 2 or calls.count(name) > 1:
            continue
        level = round(math.log2(side / max(output.shape[2:])))
        found.pop(level, None)
        found[level] = name
    if not found:
        raise InputError(
            f"auto looks for maps [B, C, H, W], and the {network.who} has none; give the layers, "
            "{student layer: teacher layer}."
        )
    return found


def _watch(network: Tapped, batch: Batch, names: set[str]) -> list[tuple[str, Tensor]]:
    """What modules of a network answer, in the order in which they are done; for `linear`, what enters it."""
    seen: list[tuple[str, Tensor]] = []

    def reader(name: str, entering: bool) -> Any:
        def read(module: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
            value = given[0] if entering and given else answer
            if isinstance(value, Tensor):
                seen.append((name, value))

        return read

    modules: Mapping[str, nn.Module] = dict(network.model.named_modules())
    handles = [
        modules[name].register_forward_hook(reader(name, isinstance(modules[name], nn.Linear)))
        for name in names
    ]
    training = network.training
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    network.eval()
    try:
        with torch.no_grad():
            network(batch.to(device).input)
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return seen
