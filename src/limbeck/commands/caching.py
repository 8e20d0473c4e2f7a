"""`limbeck cache`: ask the teacher once, before any student learns."""

import time
from pathlib import Path
from typing import Any

import typer

from limbeck.build import load_data, make_objective, make_teacher
from limbeck.caching import Cache, sized
from limbeck.commands.common import screen
from limbeck.equipping import Equipping
from limbeck.errors import InputError
from limbeck.pace import Unkept, Work
from limbeck.pairing import settle_layers
from limbeck.phase import Interrupted
from limbeck.progress import Silent
from limbeck.recipe import CacheSpec, Recipe
from limbeck.stopping import Stop
from limbeck.training.runtime import Runtime

__all__ = ["cache"]


def cache(
    recipe: Path,
    overrides: list[str],
    views: int | None,
    out: Path | None,
    as_json: bool,
    small: bool = False,
) -> dict[str, Any] | None:
    """Write the answers of a recipe's teacher to so many views of every training sample, for each seed."""
    loaded = Recipe.load(recipe, overrides, small).written_out()
    teacher = loaded.sole_teacher
    if loaded.teacher_names:
        raise InputError(
            f"{recipe}: the answers of several teachers are not kept: a cache is of one teacher."
        )
    if teacher is None:
        raise InputError(f"{recipe}: there is no teacher whose answers could be kept.")
    if teacher.train is not None:
        raise InputError(
            f"{recipe}: the teacher is trained by the run itself; teacher.cache in the recipe has its "
            "answers kept there."
        )
    spec = teacher.cache or CacheSpec()
    count = views or spec.views or max(1, loaded.train.epochs)
    spec = CacheSpec(**{**spec.model_dump(), "when": "always", "views": count})
    if out is not None:
        spec = spec.model_copy(update={"folder": str(out.absolute())})
    return _made(loaded, spec, as_json)


def _made(recipe: Recipe, spec: CacheSpec, as_json: bool) -> dict[str, Any] | None:
    train = recipe.train
    runtime = Runtime(
        train.device, train.precision, train.compile is True, train.channels_last, train.threads
    )
    shown = screen() if runtime.main else Silent()
    data = load_data(recipe)
    recipe = settle_layers(recipe, data, shown)
    objective = make_objective(recipe.objective, recipe.beside, recipe.stages)
    answering = make_teacher(recipe, data, objective.teacher_taps if spec.features else [])
    # The work of a training with so many epochs.
    whole = {**recipe.dump(), "train": {**recipe.dump()["train"], "epochs": spec.views}}
    work = Work(Recipe.from_dict(whole, recipe.path), data, runtime)
    equip = Equipping(work, shown, Unkept(), objective)
    stop = Stop(runtime, shown)
    found: list[dict[str, Any]] = []
    with runtime.guard(), stop.listening():
        for seed in recipe.seed_list:
            made = Cache(work, answering, objective, seed, spec, shown, equip)
            begun = time.perf_counter()
            if not made.make(spec.views or 1, stop.asked):
                shown.say("limbeck: stopped; the shards that are done stay. Go on with the same command.")
                raise typer.Exit(130) from Interrupted()
            there = made.passes()
            found.append(
                {
                    "seed": seed,
                    "folder": str(made.place.folder),
                    "views": there,
                    "bytes": made.bytes(there),
                    "bytes_per_sample": made.place.layout.dtype.itemsize,
                    "seconds": round(time.perf_counter() - begun, 3),
                }
            )
    if not runtime.main:
        return None
    if not as_json:
        for line in found:
            typer.echo(
                f"seed {line['seed']}: {line['views']} views of {len(data.train)} samples, "
                f"{sized(line['bytes'])}, in {line['folder']}"
            )
        typer.echo(_advice(recipe, spec))
    return {"name": recipe.name, "caches": found}


def _advice(recipe: Recipe, spec: CacheSpec) -> str:
    """How the recipe replays it."""
    wanted: dict[str, Any] = spec.model_dump(exclude_defaults=True)
    short = spec.views if list(wanted) == ["views"] else wanted
    said = str(short).replace("'", "").replace("True", "true")
    if spec.views is not None and spec.views >= recipe.train.epochs and spec.folder is None:
        return "Runs of this recipe replay it by themselves."
    return f"A recipe replays it with teacher.cache: {said}"
