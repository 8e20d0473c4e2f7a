"""`KDTrainer`: the later face of the same, with networks and loaders as objects."""

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.api import Distilled, distill
from limbeck.compat.super_gradients.building import check_kd_module, tell_of_eval_mode
from limbeck.compat.super_gradients.keys import Gone, Keys, none_left, warn
from limbeck.compat.super_gradients.launch import MultiGPUMode, processes
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError
from limbeck.knowledge import Batch, as_batch
from limbeck.objective import Term
from limbeck.training.ema import Averaging

__all__ = ["KDTrainer"]

_TRAIN = (
    "student",
    "teacher",
    "training_params",
    "train_loader",
    "valid_loader",
    "kd_architecture",
    "kd_arch_params",
    "run_teacher_on_eval",
)
_TRAIN_GONE = {
    "model": Gone("give student and teacher; they are joined here."),
    "test_loaders": Gone("evaluate the student on them after the training."),
}


class _Added:
    """A loader that gives several of another one's batches as one, whose step they all share.

    What is left at the end of a pass is left out.

    Args:
        loader: yields (images, class indices).
        number: batches that are one.

    Raises:
        InputError: the loader has fewer batches.
    """

    def __init__(self, loader: Iterable[Any], number: int) -> None:
        self._loader, self._number = loader, number
        # By these, `limbeck.distill` gives every training the same order.
        self.generator = getattr(loader, "generator", None)
        self.sampler = getattr(loader, "sampler", None)
        if not isinstance(loader, Sized) or len(loader) < number:
            raise InputError(
                f"training_params.batch_accumulate: {number}, so the train_loader must have a length of at "
                f"least {number} batches."
            )
        self._length = len(loader) // number

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        ready = iter(self._loader)
        for _ in range(self._length):
            parts = [as_batch(item) for item in itertools.islice(ready, self._number)]
            inputs = [part.input for part in parts if isinstance(part.input, Tensor)]
            targets = [part.target for part in parts if part.target is not None]
            if len(inputs) < self._number or len(targets) < self._number:
                raise InputError("train_loader: must yield (images, class indices) in all of its batches.")
            yield Batch(torch.cat(inputs), torch.cat(targets))


class KDTrainer:
    """SuperGradients' trainer for distillation.

    Args:
        experiment_name: name of the file that the student is written to.
        device: where it computes; None: what there is.
        multi_gpu: how the script was started.
        ckpt_root_dir: the folder in which `<experiment_name>/student.safetensors` is written; None: nowhere.

    Attributes:
        result: what `limbeck.distill` gives, after `train`.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        device: str | torch.device | None = None,
        multi_gpu: MultiGPUMode | str = MultiGPUMode.AUTO,
        ckpt_root_dir: Path | str | None = None,
        **others: Any,
    ) -> None:
        none_left(others, "KDTrainer", ("experiment_name", "device", "multi_gpu", "ckpt_root_dir"))
        if not isinstance(experiment_name, str):
            raise InputError(f"KDTrainer: experiment_name must be a name, given {experiment_name!r}.")
        self.experiment_name = experiment_name
        self.device = "auto" if device is None else str(device)
        self.folder = None if ckpt_root_dir is None else Path(ckpt_root_dir) / experiment_name
        self.result: Distilled | None = None
        processes(multi_gpu)

    def train(
        self,
        *,
        student: nn.Module | None = None,
        teacher: nn.Module | None = None,
        training_params: Mapping[str, Any] | None = None,
        train_loader: Iterable[Any] | None = None,
        valid_loader: Iterable[Any] | None = None,
        kd_architecture: str = "kd_module",
        kd_arch_params: Mapping[str, Any] | None = None,
        run_teacher_on_eval: bool | None = None,
        **others: Any,
    ) -> Distilled:
        """Train `student` in place.

        Args:
            student, teacher: answer logits [B, C].
            training_params: as `KDModel.train` takes them; the watched metric chooses nothing here, since the
                loader that is evaluated on is the only one: the weights are those of the last epoch, and a
                warning says so where an average of the best was asked for.
            train_loader, valid_loader: yield (images, class indices).
            kd_architecture: `kd_module`.
            kd_arch_params: teacher_input_adapter, student_input_adapter: modules in front of the networks.
            run_teacher_on_eval: the teacher is always in eval mode; False is warned of.

        Returns:
            The student and its figures.

        Raises:
            InputError: a key that is not known, or a value that cannot be.
        """
        none_left(others, "train", _TRAIN, _TRAIN_GONE)
        check_kd_module(kd_architecture, "kd_architecture")
        tell_of_eval_mode(run_teacher_on_eval)
        student, teacher = _network(student, "student"), _network(teacher, "teacher")
        if train_loader is None:
            raise InputError("train_loader: is missing; give a loader of (images, class indices).")
        keys = Keys(kd_arch_params, "kd_arch_params", {})
        adapters = {f"{who}_adapter": keys.take(f"{who}_input_adapter") for who in ("teacher", "student")}
        keys.close()
        found = translate(training_params, self.device, watches=False, name="training_params")
        if found.unmet:
            warn(
                "training_params.average_best_models: nothing is chosen by the loader that is reported; the "
                "weights of the last epoch are taken. KDModel and recipes split a part off to choose by."
            )
        for name in found.metrics:
            warn(f"training_params: {name} is not computed here; limbeck.run computes it.")
        train = found.train
        terms: dict[str, Term | float] = {name: Term(**term) for name, term in found.objective.items()}
        self.result = distill(
            teacher,
            student,
            _Added(train_loader, found.accumulated) if found.accumulated > 1 else train_loader,
            valid_loader,
            objective=terms,
            epochs=train["epochs"],
            optimizer=train["optimizer"],
            schedule=train["schedule"],
            accumulate=train["accumulate"],
            clip=train.get("clip"),
            decay_bias_and_norm=train["decay_bias_and_norm"],
            ema=Averaging(**train["ema"]) if "ema" in train else None,
            control=False,
            device=self.device,
            precision=train["precision"],
            compile=train["compile"],
            seed=found.seed,
            progress=not found.silent,
            **adapters,
        )
        if self.folder is not None and os.environ.get("RANK", "0") == "0":
            from limbeck import weights

            self.folder.mkdir(parents=True, exist_ok=True)
            weights.save(self.result.student, self.folder / "student.safetensors")
        return self.result


def _network(given: object, who: str) -> nn.Module:
    if not isinstance(given, nn.Module):
        raise InputError(
            f"{who}: must be a network, given {type(given).__name__}; models.get(name) makes one."
        )
    return given
