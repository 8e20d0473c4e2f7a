"""One run from end to end: teacher, control, student, evaluation, export, report.

`run(recipe, out)` is what `limbeck distill` calls; each training is a `Phase` that resumes by itself, so the
run can be killed at any moment and goes on where it was.
"""

import contextlib
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from limbeck.assembly import make_scheme, rehearse
from limbeck.build import (
    checkpoint,
    control_objective,
    further_figures,
    load_data,
    make_objective,
    make_student,
    mix,
    prepare,
    settings,
)
from limbeck.conclusion import Taught, conclude
from limbeck.data import Data, Plan
from limbeck.errors import InputError
from limbeck.evaluation.figures import Figures
from limbeck.jobs import side_by_side
from limbeck.journal import Journal
from limbeck.objective import Objective
from limbeck.outcome import Outcome
from limbeck.pairing import settle_layers
from limbeck.phase import Interrupted, Phase
from limbeck.progress import Display, Silent
from limbeck.recipe import ControlSpec, Recipe, TrainSpec
from limbeck.replaying import Replaying
from limbeck.runfolder import RunFolder
from limbeck.stopping import Stop
from limbeck.teaching import Teaching, teachers_objective
from limbeck.tracking import Tracking
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.runtime import Runtime
from limbeck.training.shard_trial import try_optimizer

__all__ = ["Run", "run"]


def run(
    recipe: Recipe, out: Path | str, *, resume: bool = False, jobs: int = 1, display: Display | None = None
) -> dict[str, Any]:
    """Run a recipe into a folder.

    Args:
        recipe: what to do.
        out: the run folder; made when it does not exist.
        resume: go on with a run that is there already.
        jobs: how many trainings (controls and students of all seeds) go on side by side, each in a process
            of its own; the threads of this process are shared out among them.
        display: where progress is shown; None shows nothing.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: the recipe cannot work, or the folder is taken.
        WorkError: the work failed; what was saved stays, and `resume` goes on from it.
        Interrupted: Ctrl-C; the state is saved.
    """
    if recipe.variants:
        raise InputError("variants: are for limbeck compare; limbeck distill trains one student.")
    return Run(recipe, Path(out), display or Silent(), jobs).go(resume)


class Run:
    """The work of one recipe.

    Args:
        recipe: what to do.
        out: the run folder.
        display: where progress is shown.
        jobs: how many trainings go on side by side.
    """

    def __init__(self, recipe: Recipe, out: Path, display: Display, jobs: int = 1) -> None:
        self.recipe = recipe.written_out()
        self.folder = RunFolder(out)
        self.runtime = _runtime(recipe.train)
        if jobs > 1 and self.runtime.world > 1:
            raise InputError(
                "--jobs: trainings side by side and several processes for one exclude each other."
            )
        self.jobs = jobs
        self.display = display if self.runtime.main else Silent()
        self.journal = Journal(self.folder.metrics)
        self.data: Data
        self.figures: Figures
        self.teaching: Teaching
        self.replaying: Replaying
        self.tracking: Tracking
        self._stop = Stop(self.runtime, self.display)

    @property
    def roles(self) -> list[str]:
        """The networks that are trained for each seed, in this order."""
        return [*(["control"] if self.recipe.has_control else []), *self._taught]

    @property
    def _taught(self) -> list[str]:
        return ["student"]

    def go(self, resume: bool) -> dict[str, Any]:
        """All of it; see `run`."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.runtime.guard())

            def take() -> None:
                stack.enter_context(self.folder.lock())
                self.folder.check(self.recipe, resume)

            self.runtime.first(take)
            if self.runtime.world > 1:
                self._check_shared()
            elif self.recipe.train.shard:
                self.display.say("train.shard: has no effect on one process, which holds all networks whole")
            self.display.say(f"{self.recipe.name}: reads the data and builds everything once")
            self._load()
            self._rehearse()
            # Only now: a recipe that cannot work leaves the folder free for the corrected one.
            self.runtime.first(self._claim)
            stack.enter_context(self._stop.listening())
            return self._all()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """In a process of its own, beside the one that claimed the folder: ready for `train`."""
        self._load()
        self.teaching.read(self.folder.answers)
        with self._stop.listening():
            yield

    def _check_shared(self) -> None:
        """Every process must see the folder: states are read, and a trained teacher, by all of them.

        Raises:
            InputError: some do not see what the first one writes there.
        """
        token = self.runtime.told(uuid.uuid4().hex)
        self.runtime.first(lambda: self.folder.mark(token))
        sees = torch.tensor([int(self.folder.sees(token))], device=self.runtime.device)
        blind = self.runtime.world - int(self.runtime.gather(sees).sum())
        self.runtime.first(self.folder.unmark)
        if blind:
            raise InputError(
                f"{self.folder.path}: {blind} of {self.runtime.world} processes do not see what "
                "the first one writes there. With several machines, --out must lie on storage that all of "
                "them share, under the same path."
            )

    def _load(self) -> None:
        self.data = load_data(self.recipe)
        self.figures = further_figures(self.recipe, self.data)
        recipe = self.recipe
        self.tracking = Tracking(recipe.track, recipe.name, self.folder.path, recipe.dump(), self.display)
        self.recipe = settle_layers(self.recipe, self.data, self.display)
        self.teaching = Teaching(self.recipe, self.data, self.runtime, self.display, self._phase)
        self.replaying = Replaying(
            self.recipe,
            self.data,
            self.runtime,
            self.display,
            self.folder,
            self.teaching.network,
            self._objective,
        )

    def _claim(self) -> None:
        data = self.data
        splits = {"training": data.train, "test": data.test, "validation": data.validation}
        known = {name: split.hash() for name, split in splits.items() if split is not None}
        given = self.recipe.train.threads
        shared = given or max(1, torch.get_num_threads() // self.jobs)
        threads = self.folder.claim(self.recipe, known, shared)
        torch.set_num_threads(given or threads)

    def _rehearse(self) -> None:
        """Build everything once, so that what cannot work is told now and not after hours of training."""
        recipe, data = self.recipe, self.data
        seed = recipe.seed_list[0]
        if recipe.teacher is not None and recipe.teacher.train is not None:
            network = prepare(recipe.teacher, data, where="teacher", beside=recipe.beside)
            make_scheme(network, teachers_objective(recipe), None, data, seed)
        for role in self.roles:
            objective = self._objective(role)
            teacher = self.teaching.stand_in(objective.teacher_taps) if objective.needs_teacher else None
            scheme = make_scheme(make_student(recipe, data, seed), objective, teacher, data, seed)
            rehearse(scheme, data, self.runtime)
        self.replaying.check(self.roles)
        own = recipe.control.train if isinstance(recipe.control, ControlSpec) else None
        first = recipe.teacher.train if recipe.teacher is not None else None
        for spec, part in ((recipe.train, "student"), (own, "student"), (first, "teacher")):
            if spec is not None:
                chosen = settings(spec)
                build_schedule(build_optimizer(list(scheme.named_parameters()), chosen), chosen, 1)
                Plan(seed, len(data.train), recipe.data.batch_size).batches(
                    0, world=self.runtime.world, parts=chosen.accumulate
                )
                if self.runtime.shards(part):
                    try_optimizer(
                        partial(build_optimizer, settings=chosen), spec.optimizer.name, self.runtime.device
                    )

    def _all(self) -> dict[str, Any]:
        self.teaching.examine(self._objective(self._taught[0]).teacher_taps)
        wanted = [(role, seed) for seed in self.recipe.seed_list for role in self.roles]
        self.replaying.settle([task for task in wanted if self._is_open(*task)], self._stop.asked)
        if self.jobs > 1:
            self._share_out([task for task in wanted if self._is_open(*task)])
        outcomes: dict[str, list[Outcome]] = {role: [] for role in self.roles}
        for role, seed in wanted:
            outcome = self.train(role, seed)
            if outcome is not None:
                outcomes[role].append(outcome)
        if self._stop.asked():
            raise Interrupted  # all trainings are saved; what is left is quick
        if not self.runtime.main:
            return {}
        result = self._conclude(outcomes)
        self.replaying.close()
        return result

    def _share_out(self, tasks: list[tuple[str, int]]) -> None:
        """Leave trainings to processes of their own."""
        if len(tasks) > 1:
            self.teaching.write(self.folder.answers)
            side_by_side(self.folder.path, tasks, self.jobs, self.display, self._stop.asked)

    def _conclude(self, outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
        self.display.say("exporting and measuring")
        teaching = self.teaching
        teacher = teaching.network(self._objective("student").teacher_taps)
        taught = Taught(teacher, teaching.seconds, teaching.figures)
        return conclude(self.recipe, self.data, self.runtime, self.folder, taught, outcomes)

    # Control and student

    @property
    def _period(self) -> int | None:
        """Passes after which the views come again, for the student and for its control alike."""
        cache = None if self.recipe.teacher is None else self.recipe.teacher.cache
        return None if cache is None else cache.views

    def _objective(self, role: str) -> Objective:
        """What a network learns from."""
        own = make_objective(self.recipe.objective, self.recipe.beside, self.recipe.stages)
        return control_objective(self.recipe, own) if role == "control" else own

    def _is_open(self, role: str, seed: int) -> bool:
        """Whether a training is still to be done."""
        return self._training(role, seed).finished() is None

    def train(self, role: str, seed: int) -> Outcome | None:
        """One training; nothing is done twice. None: it was given up, which only a comparison does."""
        phase = self._training(role, seed)
        done = phase.finished()
        if done is not None:
            return done
        if self._stop.asked():
            raise Interrupted
        with self.folder.training(role, seed) if self.runtime.main else contextlib.nullcontext():
            return self._train(phase, role, seed)

    def _train(self, phase: Phase, role: str, seed: int) -> Outcome:
        student = make_student(self.recipe, self.data, seed)
        objective = self._objective(role)
        teacher = self.teaching.network(objective.teacher_taps) if objective.needs_teacher else None
        scheme = make_scheme(student, objective, teacher, self.data, seed)
        scheme.teacher = self.replaying.teacher(role, seed) or scheme.teacher
        return phase.run(scheme, self.teaching.logits)

    def _training(self, role: str, seed: int) -> Phase:
        control = self.recipe.control
        given = control.train if role == "control" and isinstance(control, ControlSpec) else None
        return self._phase(role, seed, given or self.recipe.train)

    def _phase(self, role: str, seed: int, train: TrainSpec) -> Phase:
        return Phase(
            role=role,
            seed=seed,
            folder=self.folder.phase(role, seed),
            states=self.folder.states(role, seed),
            journal=self.journal,
            data=self.data,
            runtime=self.runtime,
            settings=settings(train),
            batch_size=self.recipe.data.batch_size,
            eval_batch_size=self.recipe.data.eval_batch_size,
            display=self.display,
            repeats=self.recipe.data.repeats,
            mix=mix(self.recipe),
            period=None if role == "teacher" else self._period,
            ahead=None if self.recipe.teacher is None else self.recipe.teacher.ahead,
            save_every=train.save_every,
            workers=train.workers,
            checkpoint=checkpoint(train, self.data, self.figures),
            figures=self.figures,
            track=(lambda: self.tracking.open(role, seed)) if self.recipe.track else None,
            stop=self._stop.asked,
        )


def _runtime(train: TrainSpec) -> Runtime:
    return Runtime(
        train.device, train.precision, train.compile, train.channels_last, train.threads, train.shard
    )
