"""Which trainings of a run replay their teacher's answers: settled once, before the first of them begins.

`teacher.cache: always` makes what is missing. Left to itself (`auto`), a run replays only what changes no
loss: a cache with a view for every epoch, which lies ready because somebody made it for this recipe; or,
where several students of one seed are about to ask the same teacher the same questions (`limbeck compare`),
one in single precision, made in the run's folder and removed with the last of them. What was settled is kept
in the run's state, so that a resumed run goes on as it began.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from limbeck.build import settings
from limbeck.caching import Cache, sized
from limbeck.errors import InputError
from limbeck.objective import Objective
from limbeck.pace import Choices, Work
from limbeck.phase import Interrupted
from limbeck.progress import Display
from limbeck.recipe import CacheSpec, Recipe
from limbeck.runfolder import RunFolder
from limbeck.staging import spans
from limbeck.teachers import Cached, Fixed, Frozen

__all__ = ["Replaying", "views_needed"]

ROOM = 20 << 30
"""Bytes that a cache may take which nobody asked for; and no more than `SHARE` of what is free."""

SHARE = 0.2

ONLINE = "online"
"""What is noted of a training whose teacher is asked as it goes on."""

AUTO = CacheSpec(when="auto")
NEVER = CacheSpec(when="never")


@dataclass
class Replaying:
    """The caches of a run.

    Attributes:
        work: what there is to do.
        display: where progress is shown.
        folder: of the run.
        choices: where it is kept what was settled.
        network: the teacher that reads these layers.
        objective: what a role learns from.
        equip: gives a teacher a faster way to be run.
    """

    work: Work
    display: Display
    folder: RunFolder
    choices: Choices
    network: Callable[[list[str]], Fixed | None]
    objective: Callable[[str], Objective]
    equip: Callable[[Frozen], None]
    _last: tuple[tuple[str, int, str], Cache] | None = field(default=None, init=False, repr=False)

    @property
    def spec(self) -> CacheSpec:
        """What the recipe says; the answers of several teachers are not kept."""
        if self.work.recipe.teacher_names:
            return NEVER
        teacher = self.work.recipe.sole_teacher
        return AUTO if teacher is None or teacher.cache is None else teacher.cache

    def check(self, roles: Sequence[str]) -> None:
        """See whether the caches that the recipe asks for can work; nothing is written.

        Raises:
            InputError: an objective reads what is not kept, or a cache that is there does not fit.
        """
        teacher, spec = self.work.recipe.sole_teacher, self.spec
        if teacher is None or spec.when != "always":
            return
        for role in roles:
            objective = self.objective(role)
            if objective.teacher_taps and not spec.features and role == "student":
                self._refuse_layers(role, objective)
            if objective.needs_teacher and teacher.train is None:
                self._cache(role, self.work.recipe.seed_list[0], spec).passes()

    def settle(self, wanted: Sequence[tuple[str, int]], stop: Callable[[], bool]) -> None:
        """Settle how each of these trainings is taught, and make the caches that are missing.

        Raises:
            Interrupted: `stop` said so; what is done stays.
            InputError: a cache that does not fit, or one for which there is no room.
        """
        if self.work.recipe.teacher is None or self.spec.when == "never":
            return
        for seed in dict.fromkeys(seed for _, seed in wanted):
            roles = [role for role, of in wanted if of == seed and self.objective(role).needs_teacher]
            for role in roles:
                key = _key(role, seed)
                known = self.choices.chosen(key)
                found = self._settled(role, seed, len(roles)) if known is None else known
                if known is None:
                    self.choices.choose(key, found)
                    found = self.choices.chosen(key)  # of several processes, the first one's
                if found != ONLINE:
                    self._make(role, seed, found, stop)

    def teacher(self, role: str, seed: int) -> Cached | None:
        """Who replays the teacher's answers to one training; None: the teacher answers itself.

        Raises:
            InputError: the cache is not there any more, or is not what it was.
        """
        if not self.replays(role, seed):
            return None
        return self._cache(role, seed, _spec(self.spec, self.choices.chosen(_key(role, seed)))).answers()

    def replays(self, role: str, seed: int) -> bool:
        """Whether it was settled that a training replays its teacher's answers."""
        return self.choices.chosen(_key(role, seed)) not in (None, ONLINE)

    def close(self) -> None:
        """Remove what was made for this run alone."""
        shutil.rmtree(self.folder.cache, ignore_errors=True)

    def _settled(self, role: str, seed: int, students: int) -> str:
        """How a training is taught: online, or by a cache with these settings, as JSON."""
        objective, spec = self.objective(role), self.spec
        if not self._needed(role):
            return ONLINE  # nothing is trained
        if objective.teacher_taps and not spec.features:
            if spec.when == "always":
                self._refuse_layers(role, objective)
            return ONLINE
        if spec.when == "always":
            return spec.model_dump_json()
        return self._ready(role, seed) or (self._shared(role, seed) if students > 1 else ONLINE)

    def _refuse_layers(self, role: str, objective: Objective) -> None:
        """Say that a cache without features is not for this training, or stop where it is the only one."""
        needing = next(name for name, term in objective.terms.items() if term.layers)
        told = (
            f"objective.{needing} reads layers of the teacher, which its cache does not keep "
            "(teacher.cache.features: true keeps them)"
        )
        if role == "student":
            raise InputError(f"teacher.cache: {told}.")
        self.display.say(f"{role}: {told}; the teacher is asked as it goes on")

    def _ready(self, role: str, seed: int) -> str | None:
        """A finished cache with a view for every epoch."""
        needed = self._needed(role)
        for store in ("fp32", "auto"):
            spec = CacheSpec(store=store)
            try:
                cache = self._cache(role, seed, spec)
                there = cache.passes()
            except InputError:
                continue  # not one that this run could use
            if there >= needed:
                self.display.say(f"replays the teacher's answers from {cache.place.folder}")
                return spec.model_dump_json()
            if there:
                self.display.say(
                    f"{cache.place.folder} holds {there} views of each sample, less than one for each of "
                    f"{needed} epochs, so it is not taken by itself; teacher.cache: {there} replays them"
                )
        return None

    def _shared(self, role: str, seed: int) -> str:
        """A cache of this run alone, for several students."""
        spec = CacheSpec(store="fp32", folder=str(self.folder.cache.absolute()))
        needed = max(views_needed(self.work.recipe, self.objective(role)), 1)
        size = self._cache(role, seed, spec).bytes(needed)
        free = shutil.disk_usage(self.folder.path).free
        if size > min(ROOM, SHARE * free):
            self.display.say(
                f"{role}: the teacher is asked as it goes on; a cache of its answers would take {sized(size)}"
            )
            return ONLINE
        return spec.model_dump_json()

    def _make(self, role: str, seed: int, settled: str, stop: Callable[[], bool]) -> None:
        spec = _spec(self.spec, settled)
        views = self._needed(role) if spec.views is None else min(spec.views, self._needed(role))
        if not self._cache(role, seed, spec).make(views, stop):
            raise Interrupted

    def _needed(self, role: str) -> int:
        return views_needed(self.work.recipe, self.objective(role))

    def _cache(self, role: str, seed: int, spec: CacheSpec) -> Cache:
        key = (role, seed, spec.model_dump_json())
        if self._last is not None and self._last[0] == key:
            return self._last[1]
        self._last = None
        objective = self.objective(role)
        teacher = self.network(objective.teacher_taps if spec.features else [])
        assert isinstance(teacher, Frozen)
        made = Cache(self.work, teacher, objective, seed, spec, self.display, self.equip)
        self._last = (key, made)
        return made


def views_needed(recipe: Recipe, objective: Objective) -> int:
    """Views of each sample that a student sees who learns from an objective: one for each epoch."""
    whole = settings(recipe.train)
    return max(whole.epochs if span.last is None else span.last for _, span in spans(objective, whole))


def _spec(given: CacheSpec, settled: str) -> CacheSpec:
    return given if given.when == "always" else CacheSpec.model_validate_json(settled)


def _key(role: str, seed: int) -> str:
    return f"cache of {role}, seed {seed}"
