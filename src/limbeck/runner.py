"""One run from end to end: teacher, control, student, evaluation, export, report.

`limbeck.running` starts it; each training is a `Phase` that resumes by itself, so the run can be killed at
any moment and goes on where it was.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from limbeck.arranging import scheme_for
from limbeck.assembly import make_scheme, rehearse
from limbeck.build import (
    called,
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
from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.evaluation.figures import Figures
from limbeck.jobs import side_by_side
from limbeck.journal import Journal
from limbeck.objective import Objective
from limbeck.outcome import Outcome
from limbeck.pace import Agreed, Compiling, Work
from limbeck.pairing import settle_layers
from limbeck.phase import Interrupted, Phase
from limbeck.progress import Display, Silent
from limbeck.recipe import ControlSpec, Recipe, TrainSpec
from limbeck.rehearsal import check_shared, runtime_of, try_plans
from limbeck.runfolder import RunFolder, teaches
from limbeck.schemes import Offline, Scheme
from limbeck.stopping import Stop
from limbeck.teachers import Fixed
from limbeck.teaching import Teaching, teachers_objective
from limbeck.tracking import Tracking
from limbeck.tuition import Tuitions

__all__ = ["Run"]


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
        self.runtime = runtime_of(recipe.train)
        if jobs > 1 and self.runtime.world > 1:
            raise InputError(
                "--jobs: trainings side by side and several processes for one exclude each other."
            )
        self.jobs = jobs
        self.display = display if self.runtime.main else Silent()
        self.journal = Journal(self.folder.metrics)
        self.data: Data
        self.figures: Figures
        self.compiling: Compiling
        self.tuitions: Tuitions
        self.tracking: Tracking
        self._stop = Stop(self.runtime, self.display)

    @property
    def roles(self) -> list[str]:
        """The networks that are trained for each seed, in this order."""
        return [*(["control"] if self.recipe.has_control else []), *self._taught]

    @property
    def teaching(self) -> Teaching:
        """The run's teacher."""
        return self.tuitions.of(self._taught[0]).teaching

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
                check_shared(self.runtime, self.folder)
            elif self.recipe.train.shard:
                self.display.say("train.shard: has no effect on one process, which holds all networks whole")
            self.display.say(f"{self.recipe.name}: reads the data and builds everything once")
            self.rehearse()
            # Only now: a recipe that cannot work leaves the folder free for the corrected one.
            self.runtime.first(self._claim)
            stack.enter_context(self._stop.listening())
            return self._all()

    def rehearse(self) -> None:
        """See whether the recipe can work: everything is built once, and nothing is written.

        Raises:
            InputError: it cannot.
        """
        self._load()
        self._rehearse()

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """In a process of its own, beside the one that claimed the folder: ready for `train`."""
        self._load()
        self.compiling.settle(None)
        self.teaching.read(self.folder.answers)
        with self._stop.listening():
            yield

    def _load(self) -> None:
        self.data = load_data(self.recipe)
        self.figures = further_figures(self.recipe, self.data)
        recipe = self.recipe
        self.tracking = Tracking(recipe.track, recipe.name, self.folder.path, recipe.dump(), self.display)
        self.recipe = settle_layers(self.recipe, self.data, self.display)
        work = Work(self.recipe, self.data, self.runtime)
        self.compiling = Compiling(work, self.display, Agreed(self.folder, self.runtime))
        self.tuitions = Tuitions(
            self.recipe,
            self.data,
            self.runtime,
            self.display,
            self.folder,
            self._objective,
            self._taught[0],
            self._phase,
        )

    def _claim(self) -> None:
        given = self.recipe.train.threads
        shared = given or max(1, torch.get_num_threads() // self.jobs)
        threads = self.folder.claim(self.recipe, self.data.hashes(), shared)
        torch.set_num_threads(given or threads)

    def _rehearse(self) -> None:
        """Build everything once, so that what cannot work is told now and not after hours of training."""
        recipe, data = self.recipe, self.data
        seed = recipe.seed_list[0]
        for own in recipe.members().values():
            spec = own.sole_teacher
            if spec is not None and spec.train is not None:
                network = prepare(spec, data.taught, where=called(spec), beside=recipe.beside)
                make_scheme(network, teachers_objective(own), None, data.taught, seed)
        for role in self.roles:
            objective, by = self._objective(role), self.tuitions.of(role)
            wanted = objective.needs_teacher or recipe.adds_task
            teacher = by.teaching.stand_in(objective.teacher_taps) if wanted else None
            student = make_student(recipe, data, seed)
            scheme = scheme_for(recipe, role, data, seed, student, objective, teacher)
            rehearse(scheme, data, self.runtime)
            if teacher is not None:
                by.equip.check(teacher)
        self.tuitions.check(self.roles)
        try_plans(recipe, data, self.runtime, scheme)

    def _all(self) -> dict[str, Any]:
        self.teaching.examine(self._objective(self._taught[0]).teacher_taps)
        wanted = [(role, seed) for seed in self.recipe.seed_list for role in self.roles]
        open_ones = [task for task in wanted if self._is_open(*task)]
        self._settle(open_ones)
        if self.jobs > 1:
            self._share_out(open_ones)
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
        self.tuitions.close()
        return result

    def _settle(self, tasks: list[tuple[str, int]]) -> None:
        """Settle what makes trainings faster, before the first of them begins."""
        if not tasks:
            return
        last, seed = tasks[-1]  # a student's; its control trains the same network
        self.compiling.settle(lambda: self._scheme(last, seed))
        self.tuitions.settle(tasks, self._stop.asked)

    def _share_out(self, tasks: list[tuple[str, int]]) -> None:
        """Leave trainings to processes of their own."""
        if len(tasks) > 1:
            self.teaching.write(self.folder.answers)
            side_by_side(self.folder.path, tasks, self.jobs, self.display, self._stop.asked)

    def _conclude(self, outcomes: dict[str, list[Outcome]]) -> dict[str, Any]:
        self.display.say("exporting and measuring")
        teaching = self.teaching
        teacher = teaching.network(self._objective("student").teacher_taps)
        taught = Taught(teacher, teaching.seconds, teaching.figures, teaching.each(teacher))
        return conclude(self.recipe, self.data, self.runtime, self.folder, taught, outcomes)

    # Control and student

    @property
    def _period(self) -> int | None:
        """Passes after which the views come again, for the student and for its control alike."""
        cache = None if self.recipe.sole_teacher is None else self.recipe.sole_teacher.cache
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

    def _scheme(self, role: str, seed: int) -> Scheme:
        student = make_student(self.recipe, self.data, seed)
        objective = self._objective(role)
        by = self.tuitions.of(role).teaching
        wanted = objective.needs_teacher or self.recipe.adds_task
        teacher = by.network(objective.teacher_taps) if wanted else None
        return scheme_for(self.recipe, role, self.data, seed, student, objective, teacher)

    def _train(self, phase: Phase, role: str, seed: int) -> Outcome:
        scheme = self._scheme(role, seed)
        by = self.tuitions.of(role)
        replayed = by.replaying.teacher(role, seed)
        if isinstance(scheme, Offline):
            if replayed is not None:
                scheme.teacher = replayed
            elif isinstance(scheme.teacher, Fixed):
                by.equip(scheme.teacher)
        return phase.run(scheme, self.teaching.logits)

    def _training(self, role: str, seed: int) -> Phase:
        control = self.recipe.control
        given = control.train if role == "control" and isinstance(control, ControlSpec) else None
        return self._phase(role, seed, given or self.recipe.train)

    def _phase(self, role: str, seed: int, train: TrainSpec) -> Phase:
        data, figures = self.data, self.figures
        if teaches(role):
            data, figures = data.taught, further_figures(self.recipe, data.taught)
        return Phase(
            role=role,
            seed=seed,
            folder=self.folder.phase(role, seed),
            states=self.folder.states(role, seed),
            journal=self.journal,
            data=data,
            runtime=self.runtime,
            settings=settings(train),
            batch_size=self.recipe.data.batch_size,
            eval_batch_size=self.recipe.data.eval_batch_size,
            display=self.display,
            repeats=self.recipe.data.repeats,
            mix=mix(self.recipe),
            period=None if teaches(role) else self._period,
            ahead=self.recipe.ahead,
            save_every=train.save_every,
            workers=train.workers,
            checkpoint=checkpoint(train, data, figures),
            figures=figures,
            track=(lambda: self.tracking.open(role, seed)) if self.recipe.track else None,
            stop=self._stop.asked,
        )
