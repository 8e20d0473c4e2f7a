"""What the joined answer of several networks learns from: labels, as each of them does."""

from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.objective import Objective
from limbeck.weighting import Changing

__all__ = ["Joint"]


class Joint(nn.Module):
    """The label terms of an objective, with the weights that they end with.

    Args:
        objective: of one of the networks.
        kind: the scheme, for the message.

    Raises:
        InputError: there are none.
    """

    def __init__(self, objective: Objective, kind: str) -> None:
        super().__init__()
        labels = objective.label_terms()
        if not labels:
            raise InputError(
                f"objective: the ensemble of {kind} learns from labels; add a term of them, such as "
                "cross_entropy."
            )
        self.objective = Objective(labels)  # scaled to 1 in all
        weights = [objective.terms[name].weight for name in labels]
        self.weight = sum(float(w.end if isinstance(w, Changing) else w) for w in weights)

    @property
    def terms(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.objective.terms)

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of a joined answer [B, C]."""
        loss: Tensor = self.objective(Knowledge(logits), None, batch)["loss"]
        return loss * self.weight
