"""`KDModel`: the seven steps, as a recipe that is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.compat.super_gradients.building import (
    check_classes,
    check_kd_module,
    joined,
    tell_of_eval_mode,
)
from limbeck.compat.super_gradients.data import ImageNetDatasetInterface
from limbeck.compat.super_gradients.keys import Gone, none_left
from limbeck.compat.super_gradients.launch import MultiGPUMode, processes
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError
from limbeck.recipe import Recipe

__all__ = ["KDModel"]

_LOADERS = Gone("give a dataset interface to connect_dataset_interface; KDTrainer takes loaders.")
_INIT_GONE = {
    "ckpt_name": Gone("load_checkpoint continues from the newest state.", ("ckpt_latest.pth",)),
    "classes": _LOADERS,
    "data_loader": _LOADERS,
    "model_checkpoints_location": Gone("give ckpt_root_dir.", ("local",)),
    "overwrite_local_checkpoint": Gone("a run's folder is never overwritten.", (False,)),
    "post_prediction_callback": Gone("there are no callbacks here."),
    "test_loader": _LOADERS,
    "train_loader": _LOADERS,
    "valid_loader": _LOADERS,
}
_BUILD = (
    "student_architecture",
    "teacher_architecture",
    "student_arch_params",
    "teacher_arch_params",
    "checkpoint_params",
    "arch_params",
    "run_teacher_on_eval",
    "architecture",
)


class KDModel:
    """SuperGradients' model for distillation.

    Args:
        experiment_name: name of the run and of its folder.
        device: where it computes, `cuda`, `cpu`, …; None: what there is.
        multi_gpu: how the script was started.
        ckpt_root_dir: the folder that the run's folder is made in.

    Attributes:
        result: what `result.json` holds, after `train`.
        net: the student as a plain module in eval mode, after `train`.
        best_metric: the watched figure of the best epoch on the part that is watched; None where nothing is.

    Raises:
        InputError: a name that is not possible, or more or fewer processes than `multi_gpu` says.
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        device: str | torch.device | None = None,
        multi_gpu: MultiGPUMode | str = MultiGPUMode.OFF,
        ckpt_root_dir: Path | str = "runs",
        **others: Any,
    ) -> None:
        taken = ("experiment_name", "device", "multi_gpu", "ckpt_root_dir")
        none_left(others, "KDModel", taken, _INIT_GONE)
        if not isinstance(experiment_name, str):
            raise InputError(f"KDModel: experiment_name must be the run's name, given {experiment_name!r}.")
        self.experiment_name = experiment_name
        self.device = "auto" if device is None else str(device)
        self.folder = Path(ckpt_root_dir) / experiment_name
        self.result: dict[str, Any] | None = None
        self.net: nn.Module | None = None
        self.best_metric: float | None = None
        self._processes = processes(multi_gpu)
        self._data: ImageNetDatasetInterface | None = None
        self._workers = 0
        self._networks: dict[str, dict[str, Any]] | None = None
        self._resume = False
        self._train_params: Mapping[str, Any] | None = None

    def connect_dataset_interface(
        self,
        dataset_interface: ImageNetDatasetInterface | None = None,
        data_loader_num_workers: int = 0,
        **others: Any,
    ) -> None:
        """Say what to learn from, and how many processes read it.

        Raises:
            InputError: something else than a data set interface.
        """
        none_left(others, "connect_dataset_interface", ("dataset_interface", "data_loader_num_workers"))
        if not isinstance(dataset_interface, ImageNetDatasetInterface):
            raise InputError(
                "connect_dataset_interface: must be an ImageNetDatasetInterface, given "
                f"{type(dataset_interface).__name__}. A recipe of limbeck's own takes other data."
            )
        self._data, self._workers = dataset_interface, data_loader_num_workers

    def build_model(
        self,
        student_architecture: str | None = None,
        teacher_architecture: str | None = None,
        student_arch_params: Mapping[str, Any] | None = None,
        teacher_arch_params: Mapping[str, Any] | None = None,
        checkpoint_params: Mapping[str, Any] | None = None,
        arch_params: Mapping[str, Any] | None = None,
        run_teacher_on_eval: bool | None = None,
        architecture: str = "kd_module",
        **others: Any,
    ) -> None:
        """Name both networks; they are built when training starts.

        Args:
            student_architecture, teacher_architecture: names of timm's, torchvision's, or of ours.
            student_arch_params, teacher_arch_params: num_classes, image_size, patch_size, and options of the
                networks' constructors.
            checkpoint_params: teacher_pretrained_weights, teacher_checkpoint_path (which wins),
                student_pretrained_weights, load_checkpoint (continue the run, where there is one). Without
                weights of a teacher a warning is given.
            arch_params: teacher_input_adapter, student_input_adapter: a `NormalizationAdapter` each.
            run_teacher_on_eval: the teacher is always in eval mode, and is asked about the test images once;
                False is warned of.
            architecture: `kd_module`.

        Raises:
            InputError: an unknown name or key, or numbers of classes that differ.
        """
        none_left(others, "build_model", _BUILD)
        check_kd_module(architecture, "architecture")
        tell_of_eval_mode(run_teacher_on_eval)
        self._networks, self._resume = joined(
            student_architecture,
            teacher_architecture,
            student_arch_params,
            teacher_arch_params,
            checkpoint_params,
            arch_params,
        )

    def to_recipe(self, train_params: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe that the steps so far come to; `print(recipe.to_yaml())` shows it.

        Args:
            train_params: as `train` takes them; None: those of the last `train`.

        Raises:
            InputError: a step is missing, or something in it cannot be.
        """
        if self._data is None:
            raise InputError("KDModel: connect_dataset_interface(...) comes before this step.")
        if self._networks is None:
            raise InputError("KDModel: build_model(...) comes before this step.")
        params = self._train_params if train_params is None else train_params
        device = "cpu" if self.device == "cpu" else "auto"
        found = translate(params, device, watches=self._data.watches)
        if found.unmet:
            raise InputError(
                "train_params.average_best_models: the best epochs are chosen on a part that is watched, and "
                "there is none: ImageNetDatasetInterface(watched=0.02) splits one off."
            )
        self._smooth(found.objective)
        answers = self._networks["student"]["options"].get("num_classes")
        if None not in (answers, self._data.classes) and answers != self._data.classes:
            raise InputError(
                f"dataset_params.cutmix_params.num_classes: {self._data.classes}, but the student answers "
                f"{answers} classes."
            )
        train = {**found.train, "device": self.device, "workers": self._workers}
        return Recipe.from_dict(
            {
                "name": self.experiment_name,
                "seeds": [found.seed],
                **self._networks,
                "data": self._data.settings(self._processes, found.accumulated),
                "objective": found.objective,
                "metrics": found.metrics,
                "train": train,
                # Another training of the same length would prove that distilling helped: control: true.
                "control": False,
            }
        )

    def _smooth(self, objective: dict[str, dict[str, Any]]) -> None:
        """Join the smoothing of the mixing to that of the loss: both act, one after the other."""
        assert self._data is not None
        term = objective.get("cross_entropy")
        if term is not None and self._data.smoothing:
            own = term.get("label_smoothing", 0.0)
            term["label_smoothing"] = round(1 - (1 - own) * (1 - self._data.smoothing), 12)

    def train(self, training_params: Mapping[str, Any] | None = None, **others: Any) -> None:
        """Run it: the teacher is asked, the student trained, evaluated, exported and measured.

        Of several processes, the first one has the results.

        Raises:
            InputError: a key that is not known, or a value that cannot be; nothing is started.
            WorkError: the work failed; what was saved stays, and load_checkpoint continues from it.
        """
        from limbeck.progress import Silent, display
        from limbeck.running import run

        none_left(others, "train", ("training_params",))
        self._train_params = training_params or {}
        recipe = self.to_recipe()
        assert self._networks is not None
        assert self._data is not None
        check_classes(self._networks, self._data.found)
        there = (self.folder / "recipe.yaml").exists()
        if there and not self._resume:
            raise InputError(
                f"experiment_name: {self.folder} holds a run already; another name starts a new one, and "
                "checkpoint_params={'load_checkpoint': True} continues it."
            )
        screen = Silent() if self._train_params.get("silent_mode") else display()
        self.result = run(recipe, self.folder, resume=there, display=screen)
        if not self.result:
            return  # another process speaks
        found = self.result["student"].get("checkpoints")
        self.best_metric = found[0]["best"]["watched"] if found and "best" in found[0] else None
        self.net = _student(self.folder)


def _student(folder: Path) -> nn.Module:
    """The student of a run as its plain class; images are normalised for it by the caller."""
    from limbeck import models

    built = models.build(
        f"run:{folder.resolve()}", classes=2, channels=3, size=(1, 1), options={}, where="student"
    )
    return built.model.eval()
