"""Learning without forgetting: a network learns a new task and keeps an old one, without any data of the old.

Z. Li, D. Hoiem, Learning without Forgetting, ECCV 2016 and IEEE TPAMI 2018, https://arxiv.org/abs/1606.09282.

    L = λ · L_old(ŷ_o, y_o) + L_new(ŷ_n, y_n)

The teacher is the network before: it knows the old classes. The student begins as that network with a larger
classifier, and sees samples of the new task alone. L_new is the cross-entropy of the labels among the new
classes' logits ŷ_n. L_old compares the old classes' logits ŷ_o with what the teacher says of the very same
samples, y_o: by softened logits at T = 2 in the paper, here by any term that compares with a teacher.

Conventions. The paper's L_old is a cross-entropy of answers raised to the power 1/T, without the factor T²;
`kd` has that factor, and leaves out the teacher's entropy, which has no gradient: λ = 1 at T = 2 in the paper
is a weight of .25 here. Old and new logits never meet in one softmax, as in the paper.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from limbeck.knowledge import Batch, Knowledge, places
from limbeck.methods.base import Method, Probe
from limbeck.objective import Objective
from limbeck.schemes.base import Lesson
from limbeck.schemes.offline import Offline
from limbeck.taps import Tapped
from limbeck.teachers.base import Teacher

__all__ = ["Heads", "Lifelong"]


class Heads(nn.Module):
    """The two parts of a student's classifier: label terms see the new classes, all others the old ones.

    Args:
        old: indices of the old classes, in the teacher's order.
        new: of all others.
    """

    def __init__(self, old: Sequence[int], new: Sequence[int]) -> None:
        super().__init__()
        # Not part of the state: the recipe and the data say what they are.
        self.register_buffer("old", torch.tensor(old), persistent=False)
        self.register_buffer("new", torch.tensor(new), persistent=False)
        self.register_buffer("places", places(new, len(old) + len(new)), persistent=False)
        self.old: Tensor
        self.new: Tensor
        self.places: Tensor

    def seen(self, method: Method, student: Knowledge, batch: Batch) -> tuple[Knowledge, Batch]:
        """What a term sees: logits [B, old or new classes], and labels among the new classes.

        Args:
            method: of the term.
            student: logits [B, C].
            batch: labels among all C classes, or shares of these [B, C].
        """
        of = self.new if method.kind == "label" else self.old
        return Knowledge(student.logits[:, of], student.features), replace(
            batch, target=self._among_new(batch.target)
        )

    def probed(self, method: Method, probe: Probe) -> Probe:
        """The same of what a method may look at while it is set up."""
        student, batch = self.seen(method, probe.student, probe.batch)
        targets = None if probe.targets is None else self.places.to(probe.targets.device)[probe.targets]
        classes = len(self.new if method.kind == "label" else self.old)
        return replace(probe, student=student, batch=batch, targets=targets, classes=classes)

    def _among_new(self, target: Tensor | None) -> Tensor | None:
        if target is None:
            return None
        return target[:, self.new] if target.is_floating_point() else self.places[target]


class Lifelong(Offline):
    """One student learns a new task from labels; an old one, from what its teacher says of the same samples.

    Args:
        student: begins with the teacher's weights; answers old and new classes, in the order of the data's.
        objective: what is minimised; its terms look as `heads` say.
        heads: which logits are of which task.
        teacher: knows the old classes, in the order of the data's; None: nobody minds the old task, as for a
            control.

    Raises:
        InputError: the objective has a term that needs a teacher and there is none.
    """

    def __init__(
        self, student: Tapped, objective: Objective, heads: Heads, teacher: Teacher | None = None
    ) -> None:
        super().__init__(student, objective, teacher)
        self.heads = heads

    def lessons(self) -> list[Lesson]:
        """The new task from labels, the old one from the teacher."""
        return [
            replace(one, learner=f"{one.learner}, {'new' if one.sources == ('labels',) else 'old'} task")
            for one in super().lessons()
        ]
