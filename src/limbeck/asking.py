"""A network's answers to a split, and its figures there."""

from typing import Any

from torch import Tensor, nn

from limbeck.data.loader import evaluation_batches
from limbeck.data.samples import Samples
from limbeck.evaluation.metrics import Evaluation, evaluate
from limbeck.knowledge import Batch
from limbeck.training.runtime import Runtime

__all__ = ["ask"]


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
