"""The folder of a run: who may write into it, and what stands where."""

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from limbeck.errors import InputError, WorkError
from limbeck.files import alone
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe
from limbeck.training.checkpoint import explain, write_atomically

__all__ = ["RunFolder", "teaches"]

FREE = (
    ("seeds",),
    ("export",),
    ("track",),
    ("train", "accumulate"),
    ("train", "save_every"),
    ("train", "workers"),
    ("train", "shard"),
    ("data", "eval_batch_size"),
)
"""What may differ on resuming: it does not change what a finished training found.

Of the seeds, the first must stay where the teacher is trained: it is the teacher's. Into how many parts a
batch is split changes a training that is not done a little, where layers or methods look at a part's samples
together; but it is what helps when memory runs out.
"""

MARK = ".seen-by-all"


def teaches(role: str) -> bool:
    """Whether a training is a teacher's: `teacher`, or `teacher.NAME` where there are several."""
    return role.partition(".")[0] == "teacher"


class RunFolder:
    """Paths of one run, its lock, and its recipe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result = path / "result.json"
        self.recipe = path / "recipe.yaml"
        self.metrics = path / "metrics.jsonl"
        self.state = path / "state"
        self.origin = self.state / "origin.json"
        self.answers = self.state / "teacher-answers.safetensors"
        self.choices = self.state / "choices.json"
        self.cache = self.state / "cache"

    def phase(self, role: str, seed: int) -> Path:
        """Where a training's weights and figures go."""
        return self.state / role if teaches(role) else self.path / "seeds" / str(seed) / role

    def states(self, role: str, seed: int) -> Path:
        """Where a training's states lie while it goes on."""
        return self.state / (f"{role}-training" if teaches(role) else f"seed-{seed}-{role}")

    def lock(self) -> AbstractContextManager[None]:
        """Keep others out while the work goes on; the lock dies with its process.

        Raises:
            InputError: another process is at work here, or the folder cannot be made.
        """
        return alone(self.path, "wait for it, or choose another --out")

    def mark(self, token: str) -> None:
        """Leave a word for the other processes of this run; see `sees`."""
        write_atomically(self.path / MARK, token)

    def sees(self, token: str) -> bool:
        """Whether this process sees the word that the first one left."""
        end = time.monotonic() + 5
        while True:
            with contextlib.suppress(OSError):
                if (self.path / MARK).read_text() == token:
                    return True
            if time.monotonic() > end:
                return False
            time.sleep(0.1)  # a network's file system may show it a moment later

    def unmark(self) -> None:
        """Take the word away again."""
        (self.path / MARK).unlink(missing_ok=True)

    @contextmanager
    def training(self, role: str, seed: int) -> Iterator[None]:
        """Keep others away from one training: a worker may live a moment longer than the run that it was of.

        Raises:
            WorkError: another process is still at it after a minute.
        """
        from filelock import FileLock, Timeout

        states = self.states(role, seed)
        held = FileLock(states.with_name(f"{states.name}.lock"), timeout=60)
        try:
            states.parent.mkdir(parents=True, exist_ok=True)
            held.acquire()
        except Timeout as error:
            raise WorkError(f"{self.path}: another process is training {role}, seed {seed}.") from error
        except OSError as error:
            raise explain(error, states) from error
        try:
            yield
        finally:
            held.release()

    def check(self, recipe: Recipe, resume: bool) -> None:
        """See whether the folder is free for this recipe; nothing is written.

        Raises:
            InputError: it holds another run, or one that `resume` was not asked for.
        """
        # The recipe comes first, so that a run killed at its very start leaves nothing else behind.
        own = {".lock", f".{self.recipe.name}.part", MARK, f".{MARK}.part"}
        foreign = [p.name for p in self.path.iterdir() if p.name not in own]
        if foreign and not self.recipe.exists():
            raise InputError(
                f"{self.path} is not empty and holds no run ({', '.join(sorted(foreign)[:5])}); "
                "choose another --out."
            )
        if self.recipe.exists():
            if not resume:
                raise InputError(
                    f"{self.path} holds a run already; --resume goes on with it, another --out starts "
                    "a new one."
                )
            self._compare(recipe)

    def claim(self, recipe: Recipe, data: Mapping[str, str], threads: int) -> int:
        """Make the folder this recipe's: from now on it holds a run.

        Args:
            recipe: the run's recipe.
            data: a fingerprint of each split.
            threads: how many CPU threads this process has.

        Returns:
            The threads that the run started with: sums in another number of them differ in the last bit.

        Raises:
            InputError: the run was started on other data.
        """
        before = self._notes()
        known = before.get("data", {})
        changed = [name for name, value in data.items() if known.get(name, value) != value]
        if changed:
            raise InputError(
                f"{self.path}: the {changed[0]} split is not the one that this run was started with. Bring "
                "the data back as they were, or choose another --out."
            )
        threads = self.threads(threads)
        beside = None if recipe.beside is None else str(recipe.beside)
        write_atomically(self.recipe, recipe.to_yaml())
        write_atomically(self.origin, json.dumps({"beside": beside, "data": dict(data), "threads": threads}))
        return threads

    def threads(self, given: int) -> int:
        """The CPU threads that the run was started with; `given` where that is not known."""
        return int(self._notes().get("threads", given))

    def _notes(self) -> dict[str, Any]:
        """What was written when the run was started; empty where that cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self.origin.read_text())
            if isinstance(found, dict):
                return found
        return {}

    def chosen(self, what: str) -> Any:
        """What was settled when the run began; None where nothing was."""
        with contextlib.suppress(OSError, ValueError):
            return json.loads(self.choices.read_text()).get(what)
        return None

    def choose(self, what: str, value: Any) -> None:
        """Keep what is settled, so that a resumed run goes on as it began."""
        known: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self.choices.read_text())
        write_atomically(self.choices, json.dumps({**known, what: value}, indent=1))

    def load_recipe(self) -> Recipe:
        """The recipe of the run; what it names beside it is looked for where the recipe came from.

        Raises:
            InputError: there is no run here.
        """
        if not self.recipe.is_file():
            raise InputError(f"{self.path} is no run: it holds no recipe.yaml.")
        beside = self._notes().get("beside")
        path = self.recipe if beside is None else Path(beside) / "recipe.yaml"
        return Recipe.from_dict(read_yaml(self.recipe), path)

    def _compare(self, recipe: Recipe) -> None:
        before = Recipe.from_dict(read_yaml(self.recipe), recipe.path)
        changed = _differences(before.dump(), recipe.dump())
        if changed:
            place, old, new = changed[0]
            raise InputError(
                f"{self.path}: the run there was started with {place}: {old}, and the recipe now says {new}. "
                "Resume with the recipe as it was, or choose another --out."
            )
        first, wanted = before.seed_list[0], recipe.seed_list[0]
        if any(teacher.train is not None for teacher in recipe.teachers) and first != wanted:
            raise InputError(
                f"{self.path}: seeds: the teacher there is trained with seed {first}, so that one must "
                f"stay the first; given {wanted}. More seeds may follow it, or choose another --out."
            )

    def write_result(self, result: dict[str, Any]) -> None:
        """Write `result.json`."""
        write_atomically(self.result, json.dumps(result, indent=1) + "\n")


def _differences(before: Any, now: Any, place: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    # Teacher and control may have a `train` of their own.
    if place and place[-1] == "layers" and isinstance(now, str):  # auto, or NAME/auto
        return []  # what it stands for was found out when the run was started
    own = place[2:] if place[:1] == ("teacher",) and place[1:2] and place[1].isdigit() else place[1:]
    if place in FREE or (place[:1] in (("teacher",), ("control",)) and own in FREE):
        return []
    found: list[tuple[str, Any, Any]] = []
    if isinstance(before, dict) and isinstance(now, dict):
        more = () if place == ("variants",) else (k for k in now if k not in before)  # may be added
        for key in [*before, *more]:
            found += _differences(before.get(key), now.get(key), (*place, key))
        return found
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (one, other) in enumerate(zip(before, now, strict=True)):
            found += _differences(one, other, (*place, str(number)))
        return found
    return [] if before == now else [(".".join(place), before, now)]
