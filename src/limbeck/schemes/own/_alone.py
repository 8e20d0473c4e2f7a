"""What the kinds of self-distillation share: a student that learns from labels until it has a teacher."""

from typing import Any

from torch import Tensor

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective
from limbeck.schemes.base import Kind, Lesson, Setting
from limbeck.schemes.offline import lessons_of
from limbeck.schemes.taught import Taught, by_labels
from limbeck.taps import Tapped
from limbeck.teachers.base import Speaker, Speaking
from limbeck.teachers.copied import Copied

__all__ = ["Own"]


class Own(Taught, Kind):
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
        return by_labels(self.alone, said, batch, self.objective)

    def learners(self) -> list[tuple[Tapped, Objective, Speaker]]:
        """The student, beside its teacher where that is a network; with what it learns from alone."""
        source = self.teacher if isinstance(self.teacher, Copied) else Speaking(self.student)
        objectives = [self.objective, *([] if self.alone is None else [self.alone])]
        return [(self.student, objective, source) for objective in objectives]

    def lessons(self) -> list[Lesson]:
        """The student from labels and from itself."""
        return lessons_of(self.objective.current, "student", (self.who,))
