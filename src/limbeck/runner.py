"""One run from end to end: teacher, control, student, evaluation, export, report.

`run(recipe, out)` is what `limbeck distill` calls; each training is a `Phase` that resumes by itself, so the
run can be killed at any moment and goes on where it was.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck import weights
from limbeck.build import (
    control_objective,
    frozen,
    load_data,
    make_objective,
    make_scheme,
    make_student,
    make_teacher,
    prepare,
    settings,
)
from limbeck.conclusion import Taught, conclude
from limbeck.data import Data, Plan
from limbeck.journal import Journal
from limbeck.objective import Objective
from limbeck.phase import Interrupted, Outcome, Phase, ask
from limbeck.progress import Display, Silent
from limbeck.recipe import ControlSpec, Network, Recipe, TrainSpec
from limbeck.runfolder import RunFolder
from limbeck.taps import Tapped
from limbeck.teachers import Frozen
from limbeck.training.optimizers import build_optimizer, build_schedule
from limbeck.training.runtime import Runtime

__all__ = ["Run", "run"]


def run(
    recipe: Recipe, out: Path | str, *, resume: bool = False, display: Display | None = None
) -> dict[str, Any]:
    """Run a recipe into a folder.

    Args:
        recipe: what to do.
        out: the run folder; made when it does not exist.
        resume: go on with a run that is there already.
        display: where progress is shown; None shows nothing.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: the recipe cannot work, or the folder is taken.
        WorkError: the work failed; what was saved stays, and `resume` goes on from it.
        Interrupted: Ctrl-C; the state is saved.
    """
    return Run(recipe, Path(out), display or Silent()).go(resume)


class Run:
    """The work of one recipe."""

    def __init__(self, recipe: Recipe, out: Path, display: Display) -> None:
        self.recipe = recipe
        self.folder = RunFolder(out)
        train = recipe.train
        self.runtime = _runtime(train)
        self.display = display if self.runtime.main else Silent()
        self.journal = Journal(self.folder.metrics)
        self.data: Data
        self._stopped = False

    def go(self, resume: bool) -> dict[str, Any]:
        """All of it; see `run`."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.runtime.guard())

            def take() -> None:
                stack.enter_context(self.folder.lock())
                self.folder.check(self.recipe, resume)

            self.runtime.first(take)
            self.display.say(f"{self.recipe.name}: reads the data and builds everything once")
            self.data = load_data(self.recipe)
            self._rehearse()
            # Only now: a recipe that cannot work leaves the folder free for the corrected one.
            self.runtime.first(self._claim)
            stack.enter_context(self._stopping())
            return self._all()

    def _claim(self) -> None:
        data = self.data
        splits = {"training": data.train, "test": data.test, "validation": data.validation}
        known = {name: split.hash() for name, split in splits.items() if split is not None}
        threads = self.folder.claim(self.recipe, known, torch.get_num_threads())
        if self.recipe.train.threads is None:
            torch.set_num_threads(threads)

    def _rehearse(self) -> None:
        """Build everything once, so that what cannot work is told now and not after hours of training."""
        recipe, data = self.recipe, self.data
        objective = make_objective(recipe.objective, recipe.beside)
        seed = recipe.seed_list[0]
        if recipe.has_control:
            alone = control_objective(recipe, objective)
            make_scheme(make_student(recipe, data, seed), alone, None, data, seed)
        if recipe.teacher is not None and recipe.teacher.train is not None:
            network = prepare(recipe.teacher, data, where="teacher", beside=recipe.beside)
            make_scheme(network, self._teachers_objective(recipe.teacher), None, data, seed)
        teacher = None if recipe.teacher is None else make_teacher(recipe, data, objective.teacher_taps)
        scheme = make_scheme(make_student(recipe, data, seed), objective, teacher, data, seed)
        own = [recipe.control.train] if isinstance(recipe.control, ControlSpec) else []
        own += [recipe.teacher.train] if recipe.teacher is not None else []
        for spec in (recipe.train, *own):
            if spec is not None:
                chosen = settings(spec)
                build_schedule(build_optimizer(list(scheme.parameters()), chosen), chosen, 1)
                Plan(seed, len(data.train), recipe.data.batch_size).batches(
                    0, world=self.runtime.world, parts=chosen.accumulate
                )

    def _all(self) -> dict[str, Any]:
        recipe = self.recipe
        objective = make_objective(recipe.objective, recipe.beside)
        teacher, spent, said, logits = self._teach(objective)
        outcomes: dict[str, list[Outcome]] = {"control": [], "student": []}
        for seed in recipe.seed_list:
            if recipe.has_control:
                outcomes["control"].append(self._train("control", seed, None, logits))
            outcomes["student"].append(self._train("student", seed, teacher, logits))
        if self._asked_to_stop():
            raise Interrupted  # all trainings are saved; what is left is quick
        if not self.runtime.main:
            return {}
        self.display.say("exporting and measuring")
        return conclude(recipe, self.data, self.runtime, self.folder, Taught(teacher, spent, said), outcomes)

    # The teacher

    def _teach(
        self, objective: Objective
    ) -> tuple[Frozen | None, float, dict[str, Any] | None, Tensor | None]:
        """The teacher, the seconds that its training took, its figures and its logits on the test set."""
        if self.recipe.teacher is None:
            return None, 0.0, None, None
        spent = 0.0
        if self.recipe.teacher.train is not None:
            teacher, spent = self._train_teacher(objective)
        else:
            teacher = make_teacher(self.recipe, self.data, objective.teacher_taps)
            if (
                self.recipe.teacher.weights is None
                and not self.recipe.teacher.pretrained
                and not (self.recipe.teacher.model.startswith("run:"))
            ):
                self.display.say(
                    "warning: the teacher has no weights (teacher.weights, teacher.pretrained or "
                    "teacher.train); a random teacher teaches nothing."
                )
        # Not compiled yet: the test set comes in other batch sizes, for which it would be compiled in vain.
        self.runtime.place(teacher.network)
        network = teacher.network if teacher.classes is None else _Picked(teacher)
        with self.display.bar("teacher on the test set", len(self.data.test), "samples") as bar:
            found, logits = ask(
                network,
                self.data.test,
                self.runtime,
                self.recipe.data.eval_batch_size,
                classes=len(self.data.classes),
                workers=self.recipe.train.workers,
                progress=bar.advance,
            )
        self.display.say(f"teacher: accuracy {found.accuracy:.4f} on {found.samples} test samples")
        return teacher, spent, found.to_json(), logits

    def _train_teacher(self, objective: Objective) -> tuple[Frozen, float]:
        spec = self.recipe.teacher
        assert spec is not None
        assert spec.train is not None
        seed = self.recipe.seed_list[0]
        phase = self._phase("teacher", seed, spec.train)
        torch.manual_seed(seed)
        built = prepare(spec, self.data, where="teacher", beside=self.recipe.beside)
        done = phase.finished()
        if done is None:
            scheme = make_scheme(built, self._teachers_objective(spec), None, self.data, seed)
            done = phase.run(scheme)
            scheme.student.close()
        # Read back, so that the teacher is the same whether it was trained just now or before a resume.
        torch.manual_seed(seed)
        fresh = prepare(spec, self.data, where="teacher", beside=self.recipe.beside)
        weights.load(fresh.model, done.file, where="teacher")
        return frozen(self.recipe, self.data, fresh, objective.teacher_taps), done.seconds

    def _teachers_objective(self, spec: Network) -> Objective:
        """What a teacher that is trained first learns from."""
        if spec.objective is None:
            return Objective({"cross_entropy": 1.0})
        return make_objective(spec.objective, self.recipe.beside)

    # Control and student

    def _train(self, role: str, seed: int, teacher: Frozen | None, logits: Tensor | None) -> Outcome:
        control = self.recipe.control
        given = control.train if role == "control" and isinstance(control, ControlSpec) else None
        phase = self._phase(role, seed, given or self.recipe.train)
        done = phase.finished()
        if done is not None:
            return done
        if self._asked_to_stop():
            raise Interrupted
        student = make_student(self.recipe, self.data, seed)
        objective = make_objective(self.recipe.objective, self.recipe.beside)
        if role == "control":
            objective = control_objective(self.recipe, objective)
        scheme = make_scheme(student, objective, teacher, self.data, seed)
        return phase.run(scheme, logits)

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
            save_every=train.save_every,
            workers=train.workers,
            stop=self._asked_to_stop,
        )

    # Being stopped

    def _asked_to_stop(self) -> bool:
        if self.runtime.world == 1:
            return self._stopped
        flag = torch.tensor(float(self._stopped), device=self.runtime.device)
        return bool(self.runtime.mean(flag) > 0)

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        """Ctrl-C and a polite kill end the work after the running step; a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: Any) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            self._stopped = True
            self.display.say("stopping after this step; the state will be saved (again: stop at once)")

        before = {n: signal.signal(n, handle) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)


class _Picked(Tapped):
    """A teacher some of whose logits are picked, as a network that can be evaluated."""

    def __init__(self, teacher: Frozen) -> None:
        super().__init__(teacher.network.model, (), teacher.network.adapter)
        assert teacher.classes is not None
        self._classes = teacher.classes

    def forward(self, input: Any) -> Any:
        answer = super().forward(input)
        return type(answer)(answer.logits[:, self._classes])


def _runtime(train: TrainSpec) -> Runtime:
    return Runtime(train.device, train.precision, train.compile, train.channels_last, train.threads)
