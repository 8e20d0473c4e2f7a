"""Which of the ways to be faster a run will use, and what to expect of them: for `limbeck check`."""

from typing import Any

from limbeck import backends
from limbeck.caching import Cache, sized
from limbeck.equipping import TRIES_FROM
from limbeck.errors import InputError
from limbeck.faculty import equipping_of
from limbeck.objective import Objective
from limbeck.pace import COMPILES_FROM, Unkept, Work, seconds
from limbeck.progress import Silent
from limbeck.recipe import CacheSpec
from limbeck.replaying import views_needed
from limbeck.teachers import Ensemble, Fixed

__all__ = ["hastened", "speed_lines"]


def hastened(work: Work, objective: Objective, teacher: Fixed | None, training: float) -> dict[str, Any]:
    """What a run will use; nothing is built, written or tried.

    Args:
        work: what there is to do.
        objective: the student's.
        teacher: of the run, placed.
        training: seconds of the student's training, neither compiled nor replayed.

    Raises:
        InputError: a named backend or cache cannot work.
    """
    found: dict[str, Any] = {"compile": _compiled(work, training), "teacher_share": None}
    if teacher is None or not objective.needs_teacher:
        return {**found, "backend": None, "cache": None}
    asked = work.batch()
    teacher.place(work.runtime, compiles=False)
    passes = work.length(seconds(lambda: teacher(asked), work.runtime))
    share = round(min(1.0, passes / training), 3) if training > 0 else None
    return {
        **found,
        "teacher_share": share,
        "backend": _backend(work, objective, teacher, passes),
        "cache": _cache(work, objective, teacher),
    }


def _compiled(work: Work, training: float) -> dict[str, Any]:
    given = work.recipe.train.compile
    long = training >= COMPILES_FROM
    will = {True: "yes", "graphs": "yes", False: "no", "auto": "tried" if long else "no"}[given]
    return {"given": given, "will": will, "from_seconds": COMPILES_FROM}


def _backend(work: Work, objective: Objective, teacher: Fixed, passes: float) -> dict[str, Any] | None:
    equip = equipping_of(work, Silent(), Unkept(), objective)
    equip.check(teacher)
    if isinstance(teacher, Ensemble):
        return None  # each has its own
    given = equip.wanted
    offered = backends.offered(teacher.network, work.runtime.device)
    long = passes * len(work.recipe.seed_list) >= TRIES_FROM
    will = given if given != "auto" else "tried" if long and len(offered) > 1 else "eager"
    return {"given": given, "will": will, "offered": list(offered), "from_seconds": TRIES_FROM}


def _cache(work: Work, objective: Objective, teacher: Fixed) -> dict[str, Any] | None:
    if isinstance(teacher, Ensemble):
        return None  # the answers of several are not kept
    given = work.recipe.sole_teacher
    spec = None if given is None else given.cache
    spec = CacheSpec(when="auto") if spec is None else spec
    needed = max(1, views_needed(work.recipe, objective))
    views = needed if spec.views is None else min(needed, spec.views)
    found: dict[str, Any] = {"given": spec.when, "will": "ask", "views": views}
    trained = given is not None and given.train is not None
    if spec.when == "never" or trained or (objective.teacher_taps and not spec.features):
        return {**found, "will": "replay" if trained and spec.when == "always" else "ask"}
    try:
        seed = work.recipe.seed_list[0]
        cache = Cache(work, teacher, objective, seed, spec, Silent(), lambda taught: None)
        there = cache.passes()
    except InputError:
        if spec.when == "always":
            raise
        return found  # a cache that this run could not use
    replays = spec.when == "always" or there >= needed
    found |= {"bytes": cache.bytes(views), "there": min(there, views), "folder": str(cache.place.folder)}
    return {**found, "will": "replay" if replays else "ask"}


def speed_lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    lines = []
    share, cache, backend = found["teacher_share"], found["cache"], found["backend"]
    if share is not None:
        lines.append(f"the teacher's pass takes {share:.0%} of a step")
    if cache is not None:
        lines.append(f"teacher.cache: {_said_of_cache(cache, share)}")
    if backend is not None and (
        cache is None or cache["will"] == "ask" or cache.get("there") != cache["views"]
    ):
        others = ", ".join(name for name in backend["offered"] if name != "eager") or "nothing else here"
        lines.append(
            f"teacher.backend: {backend['will']}"
            + (f" ({others}), as the teacher's passes are long" if backend["will"] == "tried" else "")
        )
    compiled = found["compile"]
    why = {
        "tried": f"tried first, as a training takes more than {compiled['from_seconds'] / 60:.0f} minutes",
        "no": "no"
        + (f", below {compiled['from_seconds'] / 60:.0f} minutes" if compiled["given"] == "auto" else ""),
        "yes": "yes",
    }
    lines.append(f"train.compile: {why[compiled['will']]}")
    return lines


def _said_of_cache(cache: dict[str, Any], share: float | None) -> str:
    views = f"{cache['views']} view{'s' if cache['views'] > 1 else ''}"
    saves = "" if share is None else f"; a step then takes about {1 - share:.2f} of this"
    if cache["will"] == "ask":
        size = f" ({views} would take {sized(cache['bytes'])})" if "bytes" in cache else ""
        return f"none, the teacher is asked in each step{size}"
    if "bytes" not in cache:
        return f"{views}, made once the teacher is trained{saves}"
    made = "is there" if cache["there"] == cache["views"] else f"of which {cache['there']} are there"
    return f"{views}, {sized(cache['bytes'])}, {made}{saves}"
