"""The classic scheme: a finished teacher, a student that learns from it (Hinton, Vinyals and Dean 2015)."""

from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective
from limbeck.schemes.base import Lesson
from limbeck.schemes.taught import Taught
from limbeck.taps import Tapped
from limbeck.teachers.base import Teacher

__all__ = ["Offline", "lessons_of"]


class Offline(Taught):
    """One student learns from labels, from a teacher, or from both.

    Args:
        student: the network that is trained.
        objective: what is minimised.
        teacher: None is plain training, as for a control.

    Raises:
        InputError: the objective has a term that needs a teacher and there is none.
    """

    def __init__(self, student: Tapped, objective: Objective, teacher: Teacher | None = None) -> None:
        super().__init__()
        if teacher is None and objective.needs_teacher:
            needing = [n for n in objective.terms if objective.method(n).kind != "label"]
            raise InputError(f"objective.{needing[0]} compares with a teacher, and there is none.")
        self.student = student
        self.objective = objective
        self.teacher = teacher

    def parts(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """What the running stage trains: the student with the methods' layers, or such layers alone."""
        objective = self.objective
        mine = {id(p) for p in objective.trained()}
        if not objective.preparing:
            mine |= {id(p) for p in self.student.parameters() if p.requires_grad}
        name = "layers" if objective.preparing else "student"
        return {name: [(n, p) for n, p in self.named_parameters() if id(p) in mine]}

    def teach(self, batch: Batch) -> Knowledge | None:
        # Terms of labels alone never look at the teacher: do not pay for its answer.
        return self.teacher(batch) if self.teacher is not None and self.objective.listens else None

    @property
    def looks_ahead(self) -> bool:
        return self.teacher is not None and self.teacher.steady

    def forward(self, batch: Batch, teaching: Knowledge | None) -> dict[str, Tensor]:
        said = None if self.objective.preparing else self.student(batch.input)
        losses: dict[str, Tensor] = self.objective(said, teaching, batch)
        return losses

    def lessons(self) -> list[Lesson]:
        """The student from labels and teacher."""
        return lessons_of(self.objective.current, self.trains, ("teacher",))


def lessons_of(objective: Objective, learner: str, teachers: tuple[str, ...]) -> list[Lesson]:
    """Who one learner learns from: labels, and these teachers, as the terms of its objective say."""
    by_labels = tuple(n for n in objective.terms if objective.method(n).kind == "label")
    others = tuple(n for n in objective.terms if n not in by_labels)
    found = [Lesson(learner, ("labels",), by_labels)] if by_labels else []
    return [*found, Lesson(learner, teachers, others)] if others else found
