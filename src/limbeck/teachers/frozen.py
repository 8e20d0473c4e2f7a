"""A trained network that answers and never changes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.knowledge import Batch, Knowledge
from limbeck.taps import Tapped
from limbeck.teachers.base import Teacher

if TYPE_CHECKING:
    from limbeck.training.runtime import Runtime

__all__ = ["Frozen"]


class Frozen(Teacher):
    """A network in eval mode whose parameters take no gradient, unchanged to the last bit by training.

    Frozen means `requires_grad_(False)` and eval, not a hard-wired `no_grad`: with `differentiable` the
    gradient passes *through* the teacher to its input.

    Args:
        network: the teacher.
        classes: which of its logits belong to the data's classes, in their order; None takes all.

    Raises:
        InputError: a class index is negative, or there is none.
    """

    steady = True

    def __init__(self, network: Tapped, classes: Sequence[int] | None = None) -> None:
        self.network = network
        self._learned = [p for p in network.parameters() if p.requires_grad]
        self._modules = list(network.modules())  # kept: walking the tree at each step costs more than looking
        self._training = [m for m in self._modules if m.training]
        self._shared_out = False
        self._backend: Callable[[Tensor], Knowledge] | None = None
        self.network.requires_grad_(False).eval()
        self.classes: Tensor | None = None if classes is None else torch.tensor(list(classes))
        self._highest = -1  # kept apart: asking the tensor would wait for the device at each batch
        if classes is not None:
            if not classes or min(classes) < 0:
                raise InputError("teacher.classes: must be indices of the teacher's classes, from 0 up.")
            self._highest = max(classes)

    def run_by(self, backend: Callable[[Tensor], Knowledge] | None) -> None:
        """Let something else run the network: answers without a gradient come from there.

        Args:
            backend: gives the network's answer to a batch's input; None: the network itself.
        """
        self._backend = backend

    def __call__(self, batch: Batch, differentiable: bool = False) -> Knowledge:
        if any(m.training for m in self._modules):
            self.network.eval()  # somebody outside called .train() on the module that they gave us
        if differentiable and self._shared_out:
            raise InputError("train.shard: no gradient passes through a teacher that is shared out.")
        if self._backend is not None and not differentiable and isinstance(batch.input, Tensor):
            answer = self._backend(batch.input)
        else:
            with torch.set_grad_enabled(differentiable):
                answer = self.network(batch.input)
        return self.picked(answer)

    def picked(self, answer: Knowledge) -> Knowledge:
        """The network's answer with the logits of the data's classes alone.

        Raises:
            InputError: the network has fewer classes than were named.
        """
        if self.classes is None:
            return answer
        if self._highest >= answer.logits.shape[-1]:
            raise InputError(
                f"teacher.classes: index {self._highest} is out of range; the teacher has "
                f"{answer.logits.shape[-1]} classes."
            )
        return Knowledge(answer.logits[:, self.classes], answer.features)

    def plain(self) -> nn.Module:
        """The network behind its input adapter, which answers all of its logits."""
        return nn.Sequential(self.network.adapter, self.network.model).eval()

    def place(self, runtime: "Runtime", compiles: bool = True) -> None:
        """Move to the device, shared out among the processes where the run does that, and compile likewise.

        Args:
            runtime: of the training.
            compiles: False leaves compiling for later: for a few samples, or batches of other sizes.
        """
        self._shared_out = runtime.shards("teacher")
        if self._shared_out:
            runtime.place(self.network.model, "teacher")
            runtime.place(self.network.adapter)
        else:
            runtime.place(self.network)
        if self.classes is not None:
            self.classes = self.classes.to(runtime.device)
        # Several seeds share one teacher.
        alone = self._backend is None and self.network._compiled_call_impl is None
        if compiles and runtime.compile and alone:
            self.network.compile()

    def close(self) -> None:
        """Give the network back as it came: no hooks, its parameters and layers in the modes they had."""
        self.network.close()
        for parameter in self._learned:
            parameter.requires_grad_(True)
        for module in self._training:
            module.training = True
