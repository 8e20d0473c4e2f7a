"""A teacher at work in a run: how it is built, asked faster, and its answers replayed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.data import Data
from limbeck.equipping import Equipping
from limbeck.faculty import equipping_of, teaching_of
from limbeck.objective import Objective
from limbeck.pace import Agreed, Choices, Work
from limbeck.phase import Phase
from limbeck.progress import Display
from limbeck.recipe import Recipe, TrainSpec, of_control
from limbeck.replaying import Replaying
from limbeck.runfolder import RunFolder
from limbeck.teaching import Teaching
from limbeck.training.runtime import Runtime

__all__ = ["Tuition", "Tuitions"]


@dataclass(frozen=True)
class Tuition:
    """All that a run does with one teacher.

    Attributes:
        teaching: builds the teacher.
        equip: gives it a faster way to be run.
        replaying: which trainings replay its answers.
    """

    teaching: Teaching
    equip: Equipping
    replaying: Replaying


class Tuitions:
    """The teachers of a run: the recipe's, and the control's where it has one of its own.

    Args:
        recipe: the run's recipe.
        data: what is learnt from.
        runtime: where.
        display: where progress is shown.
        folder: of the run.
        objective: what a role learns from.
        first: the first role that the recipe's teacher teaches.
        phase: makes the training of a teacher that is trained first.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Data,
        runtime: Runtime,
        display: Display,
        folder: RunFolder,
        objective: Callable[[str], Objective],
        first: str,
        phase: Callable[[str, int, TrainSpec], Phase],
    ) -> None:
        self._objective = objective
        choices = Agreed(folder, runtime)

        def made(recipe: Recipe, role: str, backends: Choices) -> Tuition:
            teaching = teaching_of(recipe, data, runtime, display, phase)
            work = Work(recipe, data, runtime)
            equip = equipping_of(work, display, backends, objective(role))
            replaying = Replaying(work, display, folder, choices, teaching.network, objective, equip)
            return Tuition(teaching, equip, replaying)

        self._all = {"": made(recipe, first, choices)}
        apart = of_control(recipe)
        if apart is not None:
            self._all["control"] = made(apart, "control", _Apart(choices, "control"))

    def of(self, role: str) -> Tuition:
        """Who teaches a role."""
        return self._all.get(role) or self._all[""]

    def check(self, roles: Sequence[str]) -> None:
        """See whether the caches that the recipe asks for can work; nothing is written.

        Raises:
            InputError: one cannot.
        """
        for by in self._all.values():
            by.replaying.check([role for role in roles if self.of(role) is by])

    def settle(self, tasks: Sequence[tuple[str, int]], stop: Callable[[], bool]) -> None:
        """Settle for each of these trainings, role and seed, how its teacher is asked.

        Raises:
            Interrupted: `stop` said so; what is done stays.
            InputError: a cache or a backend cannot work.
        """
        for by in self._all.values():
            own = [(role, seed) for role, seed in tasks if self.of(role) is by]
            by.replaying.settle(own, stop)
            asking = [self._objective(role) for role, seed in own if not by.replaying.replays(role, seed)]
            for taps in sorted({tuple(one.teacher_taps) for one in asking if one.needs_teacher}):
                teacher = by.teaching.network(list(taps))
                if teacher is not None:
                    by.equip(teacher)

    def close(self) -> None:
        """Remove what was made for this run alone."""
        self._all[""].replaying.close()


@dataclass(frozen=True)
class _Apart:
    """Choices under names of their own."""

    kept: Choices
    name: str

    def chosen(self, what: str) -> Any:
        """What was settled before."""
        return self.kept.chosen(f"{self.name}: {what}")

    def choose(self, what: str, value: Any) -> None:
        """Keep what is settled."""
        self.kept.choose(f"{self.name}: {what}", value)
