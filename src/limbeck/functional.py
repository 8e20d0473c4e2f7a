"""The pure functions of all methods, for people with their own loop.

Every function takes tensors and returns a scalar; its module in `limbeck.methods` states paper, equation and
conventions. A gradient flows to every argument that asks for one: detach the teacher's, or compute them
under `torch.no_grad()`, where only the student is to learn.

    >>> import torch
    >>> from limbeck import functional
    >>> logits = torch.tensor([[2.0, 0.0, -1.0]])
    >>> float(functional.kd(student_logits=logits, teacher_logits=logits, temperature=4.0))
    0.0

The functions are found as the methods are, by looking into the folder; `__all__` names them. So a type
checker does not see them one by one: it takes each as `Any`. Who wants its types imports it from its own
module, `from limbeck.methods.kd import kd`.
"""

from typing import Any

from limbeck import methods
from limbeck.errors import nearest

_found = {
    name: function for method in methods.names() for name, function in methods.functions(method).items()
}

__all__ = sorted(_found)

globals().update(_found)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"module 'limbeck.functional' has no function '{name}'.{nearest(name, _found)}")
