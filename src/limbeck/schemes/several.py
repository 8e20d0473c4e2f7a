"""A student of several teachers: what they say is weighted for each sample, and learnt from as one answer."""

import copy

from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective, temperature_of
from limbeck.schemes.base import Lesson
from limbeck.schemes.offline import Offline, lessons_of
from limbeck.taps import Tapped
from limbeck.teachers import Ensemble
from limbeck.teachers.ensemble import combined

__all__ = ["Several"]


class Several(Offline):
    """One student learns from several finished teachers.

    `teach` gives what each of them says, and `forward` weighs it: by what the student answers, where the
    weighting asks for that. The objective sees one answer, at its own temperature
    (`limbeck.teachers.ensemble`), and the features of all teachers, in the order of its taps. The weights are
    constants to the student's losses.

    Args:
        student: the network that is trained.
        objective: what is minimised.
        teacher: the teachers, and how they are weighted.
        classes: number of classes.

    Attributes:
        weighting: the scheme's own; what it learns is trained with the student.
        temperature: of the objective's first term that has one; 1 where none has.

    Raises:
        InputError: the weighting does not fit so many teachers.
    """

    def __init__(self, student: Tapped, objective: Objective, teacher: Ensemble, classes: int) -> None:
        super().__init__(student, objective, teacher)
        self.weighting = copy.deepcopy(teacher.weighting)
        self.names = teacher.names
        self.temperature = temperature_of(objective)
        try:
            self.weighting.setup(len(self.names), classes)
        except ValueError as error:
            raise InputError(f"weighting: {error}.") from error

    def parts(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """As with one teacher; the weighting is learned wherever the student learns."""
        parts = super().parts()
        if not self.objective.preparing:
            learned = self.weighting.named_parameters(prefix="weighting")
            parts["student"] += [(name, p) for name, p in learned if p.requires_grad]
        return parts

    def lessons(self) -> list[Lesson]:
        """The student from labels and teachers."""
        return lessons_of(self.objective.current, self.trains, tuple(self.names))

    def forward(self, batch: Batch, teaching: Knowledge | None) -> dict[str, Tensor]:
        if teaching is None:
            return super().forward(batch, None)
        said = None if self.objective.preparing else self.student(batch.input)
        answer = None if said is None else said.logits.detach()
        weights = self.weighting(teaching.logits, answer, batch, self.temperature)
        fixed = weights.detach()
        heard = Knowledge(combined(teaching.logits, fixed, self.temperature), teaching.features)
        losses: dict[str, Tensor] = self.objective(said, heard, batch)
        own = None if said is None else self.weighting.loss(teaching.logits, weights, batch)
        if own is not None:
            losses = {**losses, "loss": losses["loss"] + own, "weighting": own}
        means = fixed.mean(0).unbind()
        return {**losses, **{f"weight.{n}": mean for n, mean in zip(self.names, means, strict=True)}}
