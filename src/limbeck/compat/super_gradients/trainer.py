"""`KDTrainer`: the later face of the same, with networks and loaders as objects."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.api import Distilled, distill
from limbeck.compat.super_gradients.keys import Keys, warn
from limbeck.compat.super_gradients.launch import MultiGPUMode, processes
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError
from limbeck.objective import Term
from limbeck.training.ema import Averaging

__all__ = ["KDTrainer"]


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
        experiment_name: str,
        device: str | torch.device | None = None,
        multi_gpu: MultiGPUMode | str = MultiGPUMode.AUTO,
        ckpt_root_dir: Path | str | None = None,
    ) -> None:
        self.experiment_name = experiment_name
        self.device = "auto" if device is None else str(device)
        self.folder = None if ckpt_root_dir is None else Path(ckpt_root_dir) / experiment_name
        self.result: Distilled | None = None
        processes(multi_gpu)

    def train(
        self,
        *,
        student: nn.Module,
        teacher: nn.Module,
        training_params: Mapping[str, Any],
        train_loader: Iterable[Any],
        valid_loader: Iterable[Any] | None = None,
        kd_architecture: str = "kd_module",
        kd_arch_params: Mapping[str, Any] | None = None,
        run_teacher_on_eval: bool = False,
    ) -> Distilled:
        """Train `student` in place.

        Args:
            student, teacher: answer logits [B, C].
            training_params: as `KDModel.train` takes them; the watched metric chooses nothing here, since the
                loader that is evaluated on is the only one.
            train_loader, valid_loader: yield (images, class indices).
            kd_architecture: `kd_module`.
            kd_arch_params: teacher_input_adapter, student_input_adapter: modules in front of the networks.
            run_teacher_on_eval: has no effect: the teacher is always in eval mode.

        Returns:
            The student and its figures.

        Raises:
            InputError: a key that is not known, or a value that cannot be.
        """
        if kd_architecture != "kd_module":
            raise InputError(f'kd_architecture: must be "kd_module", given {kd_architecture!r}.')
        keys = Keys(kd_arch_params, "kd_arch_params", {})
        adapters = {f"{who}_adapter": keys.take(f"{who}_input_adapter") for who in ("teacher", "student")}
        keys.close()
        found = translate(training_params, self.device, watches=False)
        for name in found.metrics:
            warn(f"training_params: {name} is not computed here; limbeck.run computes it.")
        train = found.train
        terms: dict[str, Term | float] = {name: Term(**term) for name, term in found.objective.items()}
        self.result = distill(
            teacher,
            student,
            train_loader,
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
            seed=found.seed,
            **adapters,
        )
        if self.folder is not None:
            from limbeck import weights

            self.folder.mkdir(parents=True, exist_ok=True)
            weights.save(self.result.student, self.folder / "student.safetensors")
        return self.result
