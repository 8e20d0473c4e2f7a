"""What the kinds of self-distillation share: a student that learns from labels until it has a teacher."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective
from limbeck.schemes.base import Kind, Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking, Teacher
from limbeck.teachers.copied import Copied

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Own"]


class Own(Kind):
    """A student that is its own teacher.

    `teach` says what the student is to follow, or None as long as there is nothing yet: then it learns from
    the label terms alone, at a total weight of 1, as its control does.

    Args:
        student: the network that is trained.
        objective: what it learns by.
        setting: of the training.
    """

    who = "itself"
    """What the teacher is, for people."""
    teacher: Teacher | None = None
    """What answers in `teach`, where that is a teacher of its own."""

    def __init__(self, student: Tapped, objective: Objective, setting: Setting) -> None:
        super().__init__()
        self.student = student
        self.objective = objective
        labels = objective.label_terms()
        self.alone = Objective(labels) if labels else None

    def teach(self, batch: Batch) -> Any:
        """The teacher's answer, where the terms look at one."""
        return self.teacher(batch) if self.teacher is not None and self.objective.listens else None

    def forward(self, batch: Batch, teaching: Any) -> dict[str, Tensor]:
        said: Knowledge = self.student(batch.input)
        return self.learnt(said, teaching, batch)

    def learnt(self, said: Knowledge, heard: Knowledge | None, batch: Batch) -> dict[str, Tensor]:
        """The losses; where nothing is heard yet, by labels alone. Terms that are not there count as 0."""
        if heard is not None:
            found: dict[str, Tensor] = self.objective(said, heard, batch)
            return found
        if self.alone is None:
            raise InputError(
                "scheme: the student has nothing to learn from before it is its own teacher; give the "
                "objective a term of labels, such as cross_entropy."
            )
        losses: dict[str, Tensor] = self.alone(said, None, batch)
        zero = losses["loss"].detach() * 0.0
        return losses | {name: zero for name in self.objective.terms if name not in losses}

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """The student, beside its teacher where that is a network; with what it learns from alone."""
        source = self.teacher if isinstance(self.teacher, Copied) else Speaking(self.student)
        objectives = [self.objective, *([] if self.alone is None else [self.alone])]
        return [(self.student, objective, source) for objective in objectives]

    def lessons(self) -> list[Lesson]:
        """The student from labels and from itself."""
        return lessons_of(self.objective.current, "student", (self.who,))

    def place(self, runtime: "Runtime") -> None:
        super().place(runtime)
        if self.teacher is not None:
            self.teacher.place(runtime)

    def settle_statistics(self, runtime: "Runtime") -> None:
        super().settle_statistics(runtime)
        if isinstance(self.teacher, Copied):
            runtime.same_buffers(self.teacher.network)

    def after_step(self) -> None:
        if self.teacher is not None:
            self.teacher.after_step(self.student.model)

    def teacher_state(self) -> dict[str, Tensor]:
        return {} if self.teacher is None else self.teacher.state()

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        if self.teacher is not None:
            self.teacher.load_state(state)
