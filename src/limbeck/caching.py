"""The cache of a teacher's answers as a recipe asks for it: where it lies, what it must be, how it is made.

One cache is for one teacher, one seed (which decides the views) and one way to write; students, methods and
trials share it. It lies below LIMBECK_CACHE in a folder named after all that the answers depend on, or in the
folder that the recipe names, where a cache of anything else is refused with what differs.
"""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limbeck.build import mix, probe_batch
from limbeck.cache import (
    Layout,
    Replay,
    Store,
    build,
    differences,
    key_of,
    made_from,
    rows_of_pass,
    rows_of_shard,
)
from limbeck.cache.asking import ask_again
from limbeck.cache.store import MANIFEST
from limbeck.data import Plan
from limbeck.data.loader import Loader
from limbeck.data.places import cache as cache_folder
from limbeck.data.places import resolve
from limbeck.encoding import codec_of
from limbeck.errors import InputError
from limbeck.files import alone
from limbeck.objective import Objective
from limbeck.pace import Work
from limbeck.progress import Display
from limbeck.recipe import CacheSpec, Recipe
from limbeck.teachers import Cached, Frozen

__all__ = ["Cache", "Place", "sized"]


@dataclass(frozen=True)
class Place:
    """Where a cache lies, and what it must be.

    Attributes:
        folder: where.
        named: the recipe names the folder, so that what lies there must fit.
        made_from: what its answers are made from.
        layout: how they are written.
    """

    folder: Path
    named: bool
    made_from: dict[str, Any]
    layout: Layout

    def exists(self) -> bool:
        """Whether a finished cache lies there."""
        return (self.folder / MANIFEST).is_file()


class Cache:
    """The answers of one teacher for one seed of a recipe.

    Args:
        work: whose training split is answered about, and where.
        teacher: who answers; with the taps that the objective reads, if features are kept.
        objective: what a student learns with the answers.
        seed: of the views.
        spec: how they are kept.
        display: where progress is shown.
        equip: gives the teacher a faster way to be run, before it is asked for long.
    """

    def __init__(
        self,
        work: Work,
        teacher: Frozen,
        objective: Objective,
        seed: int,
        spec: CacheSpec,
        display: Display,
        equip: Callable[[Frozen], None],
    ) -> None:
        self._equip = equip
        recipe, data = work.recipe, work.data
        self.recipe, self.data, self.runtime, self.teacher = recipe, data, work.runtime, teacher
        self.spec, self.display = spec, display
        self.mix = mix(recipe)
        self.plan = Plan(seed, len(data.train), recipe.data.batch_size, repeats=recipe.data.repeats)
        self.bound = self.mix is not None or self.plan.repeats > 1
        self.place = self._place(objective)

    def _place(self, objective: Objective) -> Place:
        teacher, spec = self.teacher, self.spec
        teacher.place(self.runtime, compiles=False)
        batch = self.runtime.put(probe_batch(self.data))
        with torch.no_grad(), self.runtime.autocast():
            answer = teacher(batch)
        classes = answer.logits.shape[1]
        shapes = tuple(tuple(feature.shape[1:]) for feature in answer.features)
        layout = Layout(classes, codec_of(spec, classes, objective), shapes)
        picked = None if teacher.classes is None else teacher.classes.tolist()
        origin = made_from(
            teacher.network,
            picked,
            self.data.train,
            self.plan,
            self.mix,
            precision=self.runtime.precision,
            backend="exact" if self._exact else "int8",
        )
        if spec.folder is not None:
            folder = resolve(spec.folder, self.recipe.beside)[0] / f"seed-{self.plan.seed}"
        else:
            folder = cache_folder() / "teachers" / f"{_slug(self.recipe)}-{key_of(origin, layout.describe())}"
        return Place(folder, spec.folder is not None, origin, layout)

    @property
    def _exact(self) -> bool:
        teacher = self.recipe.sole_teacher
        return teacher is None or teacher.backend != "int8"

    def bytes(self, views: int) -> int:
        """Size of so many views."""
        return rows_of_pass(self.plan, self.bound) * self.place.layout.dtype.itemsize * views

    def passes(self) -> int:
        """Views of each sample that a finished cache holds; 0 where there is none.

        Raises:
            InputError: it is damaged, or was made from something else.
        """
        return self._opened().passes if self.place.exists() else 0

    def answers(self) -> Cached:
        """The teacher that replays a finished cache.

        Raises:
            InputError: there is none; or it is damaged, or was made from something else.
        """
        store = self._opened()
        replay = Replay(store, self.plan, self.bound)
        loader = Loader(self.data.train, self.plan, parts=self.recipe.train.accumulate, mix=self.mix)
        self.teacher.place(self.runtime, compiles=False)
        if not self._exact:
            self._equip(self.teacher)
        ask_again(replay, self.teacher, loader, self.runtime)
        return Cached(replay)

    def make(self, views: int, stop: Callable[[], bool] = lambda: False) -> bool:
        """Make it, or add to it until it holds so many views; what is there already is kept.

        Returns:
            Whether it is done; False: `stop` said so.

        Raises:
            InputError: the folder holds another cache, or there is no room for this one.
            WorkError: the disk is full.
        """
        folder, runtime = self.place.folder, self.runtime
        with contextlib.ExitStack() as stack:

            def take() -> None:
                _make_folder(folder)
                stack.enter_context(alone(folder, "wait for it"))
                if not self.place.exists():
                    self._tell_of_others()

            runtime.first(take)
            store = self._opened() if self.place.exists() else self._new()
            if store.passes >= views:
                return True
            runtime.first(lambda: self._announce(store, views))
            loader = Loader(
                self.data.train,
                self.plan,
                parts=self.recipe.train.accumulate,
                workers=self.recipe.train.workers,
                mix=self.mix,
            )
            rows = views * store.rows
            with self.display.bar(f"teacher on {views} views", rows, "samples") as bar:
                self._equip(self.teacher)
                self.teacher.place(runtime)
                return build(store, self.teacher, loader, views, runtime, bar.advance, stop)

    def _new(self) -> Store:
        rows = rows_of_pass(self.plan, self.bound)
        place = self.place
        return Store(place.folder, place.made_from, place.layout, rows, rows_of_shard(self.plan))

    def _opened(self) -> Store:
        store, place = Store.open(self.place.folder), self.place
        wanted = {**place.made_from, "layout": place.layout.describe()}
        apart = differences({**store.made_from, "layout": store.layout.describe()}, wanted)
        if apart:
            raise InputError(
                f"teacher.cache: {place.folder} was made from something else: {'; '.join(apart)}. Delete it, "
                "name another folder, or bring back what it was made from."
            )
        return store

    def _announce(self, store: Store, views: int) -> None:
        """Say how large it will be, before any work.

        Raises:
            InputError: there is no room for it.
        """
        size, there = self.bytes(views), self.bytes(store.passes)
        free = shutil.disk_usage(self.place.folder).free
        each = self.place.layout.dtype.itemsize
        plural = "" if views == 1 else "s"
        self.display.say(
            f"cache of the teacher's answers: {sized(size)} for {views} view{plural} of "
            f"{store.rows} samples ({each} bytes each), in {self.place.folder}; {sized(free)} are free"
        )
        if size - there > free:
            raise InputError(
                f"teacher.cache: needs {sized(size)} in {self.place.folder}, and {sized(free)} are free "
                "there. Give fewer views, store: fp16 or topk, or another folder (LIMBECK_CACHE, "
                "teacher.cache.folder)."
            )

    def _tell_of_others(self) -> None:
        """Say why caches of the same teacher's name are not taken."""
        if self.place.named:
            return
        for other in sorted(self.place.folder.parent.glob(f"{_slug(self.recipe)}-*/{MANIFEST}")):
            with contextlib.suppress(InputError):
                apart = differences(_origin_in(other.parent), self.place.made_from)
                if apart:
                    self.display.say(f"not taken: {other.parent}, made from something else: {apart[0]}")


def sized(count: float) -> str:
    """Bytes for people."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _slug(recipe: Recipe) -> str:
    assert recipe.sole_teacher is not None
    return "".join(c if c.isalnum() or c in "._" else "-" for c in recipe.sole_teacher.model)[-60:]


def _origin_in(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["made_from"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(str(error)) from error
    return dict(found)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"teacher.cache: {folder} cannot be made: {error.strerror}.") from error
