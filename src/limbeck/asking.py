"""A network's answers to a split, and its figures there."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from limbeck import models
from limbeck.data import Data
from limbeck.data.loader import evaluation_batches
from limbeck.data.samples import Samples
from limbeck.evaluation.figures import Figures
from limbeck.evaluation.metrics import Evaluation, evaluate
from limbeck.knowledge import Batch
from limbeck.schemes import Scheme
from limbeck.training.runtime import Runtime
from limbeck.training.sharding import opened

__all__ = ["Asking", "ask"]


def ask(
    network: nn.Module,
    samples: Samples,
    runtime: Runtime,
    size: int,
    *,
    classes: int,
    workers: int = 0,
    **options: Any,
) -> tuple[Evaluation, Tensor]:
    """Evaluate a network on a split, in eval mode, over all processes; its mode is restored.

    Args:
        network: what is evaluated: input -> `Knowledge`.
        samples: the split.
        runtime: where; its precision is that of the training, so autocast is on where that has it.
        size: samples in one batch.
        classes: number of classes.
        workers: processes that read samples.
        options: further arguments of `limbeck.evaluation.metrics.evaluate`.

    Returns:
        The figures, and the logits [N, C].
    """
    training = network.training
    network.eval()
    runtime.same_buffers(network)

    def answer(batch: Batch) -> Tensor:
        with runtime.autocast():
            logits: Tensor = network(runtime.put(batch).input).logits
        return logits

    def join(value: Tensor) -> Tensor:
        return runtime.gather(value.to(runtime.device))

    try:
        return evaluate(
            answer,
            evaluation_batches(samples, size, rank=runtime.rank, world=runtime.world, workers=workers),
            classes=classes,
            gather=join if runtime.world > 1 else None,
            **options,
        )
    finally:
        network.train(training)


@dataclass(frozen=True)
class Asking:
    """Asks the networks of one training.

    Attributes:
        data: whose classes and test set.
        runtime: where.
        size: samples in one batch.
        workers: processes that read samples.
        figures: further figures of the student.
    """

    data: Data
    runtime: Runtime
    size: int
    workers: int
    figures: Figures | None

    def student(self, scheme: Scheme, samples: Samples, **options: Any) -> Evaluation:
        """The student's figures on a split; see `ask` for the options."""
        with opened(scheme):
            return ask(
                scheme.student,
                samples,
                self.runtime,
                self.size,
                classes=len(self.data.classes),
                workers=self.workers,
                figures=self.figures,
                **options,
            )[0]

    def other(self, scheme: Scheme, network: nn.Module) -> dict[str, Any]:
        """The final figures of a network that learned beside the student."""
        with opened(scheme):
            found, _ = ask(
                network,
                self.data.test,
                self.runtime,
                self.size,
                classes=len(self.data.classes),
                workers=self.workers,
            )
        figures: dict[str, Any] = {name: found.figure(name) for name in ("accuracy", "loss", "ece")}
        return {**figures, "parameters": models.parameters(network)}
