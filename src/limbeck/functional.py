"""The pure functions of all methods, for people with their own loop.

Every function takes tensors and returns a scalar; its module in `limbeck.methods` states paper, equation and
conventions. A gradient flows to every argument that asks for one: detach the teacher's, or compute them
under `torch.no_grad()`, where only the student is to learn.

    >>> import torch
    >>> from limbeck import functional
    >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
    >>> float(functional.kd(student_logits=logits, teacher_logits=logits, temperature=4.0))
    0.0
"""

from limbeck.methods.cross_entropy import cross_entropy
from limbeck.methods.decoupled_kd import decoupled_kd
from limbeck.methods.hint import hint
from limbeck.methods.kd import kd

__all__ = ["cross_entropy", "decoupled_kd", "hint", "kd"]
