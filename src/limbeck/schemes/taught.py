"""What schemes with one teacher share, whoever that is: it is placed, told of steps, and remembered."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective
from limbeck.schemes.base import Scheme
from limbeck.teachers.base import Teacher

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Taught", "by_labels"]


class Taught(Scheme):
    """A scheme whose student has a teacher, or none.

    Attributes:
        teacher: what answers in `teach`; None: nobody, or nothing that is apart from the student.
    """

    teacher: Teacher | None = None

    def place(self, runtime: "Runtime") -> None:
        super().place(runtime)
        if self.teacher is not None:
            self.teacher.place(runtime)

    def after_step(self) -> None:
        if self.teacher is not None:
            self.teacher.after_step(self.student.model)

    def teacher_state(self) -> dict[str, Tensor]:
        return {} if self.teacher is None else self.teacher.state()

    def load_teacher_state(self, state: dict[str, Tensor]) -> None:
        if self.teacher is not None:
            self.teacher.load_state(state)


def by_labels(alone: nn.Module, said: Knowledge, batch: Batch, objective: Objective) -> dict[str, Tensor]:
    """The losses of a learner that has nobody to hear yet; terms that would hear somebody count as 0.

    Args:
        alone: the label terms at a total weight of 1, as a control has them.
        said: what the learner says.
        batch: what was asked.
        objective: all of its terms.
    """
    losses: dict[str, Tensor] = alone(said, None, batch)
    zero = losses["loss"].detach() * 0.0
    return losses | {name: zero for name in objective.terms if name not in losses}
