"""Which weights a trained network is in the end: the last epoch's, the best one's, or the mean of several.

What is best is told by a figure on the validation part, never on the test set. The mean of several good
epochs of one training is often better than any of them: P. Izmailov et al., Averaging Weights Leads to Wider
Optima and Better Generalization, UAI 2018, https://arxiv.org/abs/1803.05407.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import weights
from limbeck.evaluation.metrics import Evaluation
from limbeck.training.runtime import Runtime
from limbeck.training.settings import Checkpoint
from limbeck.training.sharding import is_part, load_state, whole_state

__all__ = ["Choosing"]


class Choosing:
    """The best epochs so far, their weights in files, and the choice among them.

    Args:
        checkpoint: what is taken in the end.
        rising: whether more of the watched figure is better.
        states: where the training's states lie while it goes on; the best epochs' weights lie there too,
            and go with them.
        folder: where `best.safetensors` is written in the end.
        kept: the best epochs so far, `{"epoch", "value"}` each, the best first; changed in place, so that it
            is part of the training state of its owner.
        runtime: the process that it belongs to; the first one writes.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rising: bool,
        states: Path,
        folder: Path,
        kept: list[dict[str, Any]],
        runtime: Runtime,
    ) -> None:
        self.checkpoint = checkpoint
        self.kept = kept
        self._sign = 1.0 if rising else -1.0
        self._folder = folder
        self._snapshots = states / "epochs"
        self._runtime = runtime
        self._number = checkpoint.best if checkpoint.take == "average" else 1

    def offer(self, epoch: int, value: float | None, model: nn.Module) -> None:
        """Keep the weights of an epoch when it is among the best; of equal ones the earlier is better."""
        if value is None:
            return
        self.kept.append({"epoch": epoch, "value": value})
        self.kept.sort(key=lambda entry: (-self._sign * entry["value"], entry["epoch"]))
        del self.kept[self._number :]
        if any(entry["epoch"] == epoch for entry in self.kept):
            state = whole_state(model, keep=self._runtime.main)
            self._runtime.first(lambda: weights.save(state, self._file(epoch)))

    def tidy(self) -> None:
        """Remove the weights of epochs that are not among the best any more.

        Only after the training's state is saved: an earlier state may still count on them.
        """
        wanted = {self._file(entry["epoch"]) for entry in self.kept}
        for file in self._snapshots.glob("epoch-*.safetensors") if self._runtime.main else ():
            if file not in wanted:
                file.unlink(missing_ok=True)

    def conclude(
        self, model: nn.Module, epoch: int, figures: Callable[[], tuple[Evaluation, Evaluation]]
    ) -> tuple[Evaluation, Evaluation, dict[str, Any]]:
        """Give the network the weights that are taken.

        Args:
            model: with the weights of the last epoch.
            epoch: the number of that.
            figures: evaluates the network as it is on the test set and on the validation part.

        Returns:
            What `figures` gives for the weights that are taken; and `taken`, `watch` and `checkpoints`: the
            figures of the last epoch, of the best, and of the mean where that is asked for.
        """
        last = {name: value.detach().clone() for name, value in whole_state(model).items()}
        states: dict[str, dict[str, Tensor]] = {"last": last}
        told: dict[str, dict[str, Any]] = {"last": {"epoch": epoch}}
        if self.kept:
            states["best"] = self._read(self.kept[0]["epoch"], model)
            told["best"] = {"epoch": self.kept[0]["epoch"]}
        if self.kept and self.checkpoint.take == "average":
            epochs = [entry["epoch"] for entry in self.kept]
            states["average"] = _mean([self._read(number, model) for number in epochs])
            told["average"] = {"epochs": sorted(epochs)}
        taken = self.checkpoint.take if self.checkpoint.take in states else "last"
        found: dict[str, tuple[Evaluation, Evaluation]] = {}
        for name, state in states.items():
            load_state(model, state)
            found[name] = test, held_out = figures()
            told[name] |= {
                "accuracy": test.figure("accuracy"),
                "loss": test.figure("loss"),
                "validation": held_out.figure("accuracy"),
                "watched": held_out.figure(self.checkpoint.watch),
            }
        best = states.get("best")
        if best is not None:
            self._runtime.first(lambda: weights.save(best, self._folder / "best.safetensors"))
        load_state(model, states[taken])
        return *found[taken], {"taken": taken, "watch": self.checkpoint.watch, "checkpoints": told}

    def _file(self, epoch: int) -> Path:
        return self._snapshots / f"epoch-{epoch:06d}.safetensors"

    def _read(self, epoch: int, model: nn.Module) -> dict[str, Tensor]:
        """The weights of an epoch, in all processes, whether or not they see the first one's files."""
        found: dict[str, Tensor] = {}
        self._runtime.first(lambda: found.update(weights.read(self._file(epoch))))
        return {name: self._shared(found.get(name), own) for name, own in model.state_dict().items()}

    def _shared(self, read: Tensor | None, own: Tensor) -> Tensor:
        """What the first process has read, in all of them; on the CPU where the network is shared out."""
        value = torch.empty(own.shape, dtype=own.dtype, device=own.device)
        if read is not None:
            value.copy_(read)
        self._runtime.same([value])
        return value.cpu() if is_part(own) else value


def _mean(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of all that is measured in floats; counts are those of the first."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(value.dtype)
        if value.is_floating_point()
        else value
        for name, value in states[0].items()
    }
