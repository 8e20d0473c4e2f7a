"""`KDModel`: the seven steps, as a recipe that is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.compat.super_gradients.data import ImageNetDatasetInterface
from limbeck.compat.super_gradients.keys import Keys, warn
from limbeck.compat.super_gradients.launch import MultiGPUMode, processes
from limbeck.compat.super_gradients.networks import NormalizationAdapter, named, options_of
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError
from limbeck.recipe import Recipe

__all__ = ["KDModel"]

_WHICH = "of which network? Use student_pretrained_weights or teacher_pretrained_weights."
_CHECKPOINTS_GONE = {
    "pretrained_weights": _WHICH,
    "source_ckpt_folder_name": "give teacher_checkpoint_path, or load_checkpoint to continue.",
    "load_kd_model_checkpoint": "use load_checkpoint: a run's state is of both networks.",
    "load_weights_only": "use limbeck's run:FOLDER as a model.",
    "load_backbone": "is not supported.",
    "strict_load": "weights always have to fit.",
    "external_checkpoint_path": "use teacher_checkpoint_path.",
}


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
        experiment_name: str,
        device: str | torch.device | None = None,
        multi_gpu: MultiGPUMode | str = MultiGPUMode.OFF,
        ckpt_root_dir: Path | str = "runs",
    ) -> None:
        self.experiment_name = experiment_name
        self.device = "auto" if device is None else str(device)
        self.folder = Path(ckpt_root_dir) / experiment_name
        self.result: dict[str, Any] | None = None
        self.net: nn.Module | None = None
        self.best_metric: float | None = None
        self._processes = processes(multi_gpu)
        self._data: ImageNetDatasetInterface | None = None
        self._workers = 0
        self._networks: dict[str, Any] | None = None
        self._resume = False
        self._train_params: Mapping[str, Any] | None = None

    def connect_dataset_interface(
        self, dataset_interface: ImageNetDatasetInterface, data_loader_num_workers: int = 0
    ) -> None:
        """Say what to learn from, and how many processes read it.

        Raises:
            InputError: something else than a data set interface.
        """
        if not isinstance(dataset_interface, ImageNetDatasetInterface):
            raise InputError(
                "connect_dataset_interface: must be an ImageNetDatasetInterface, given "
                f"{type(dataset_interface).__name__}. A recipe of limbeck's own takes other data."
            )
        self._data, self._workers = dataset_interface, data_loader_num_workers

    def build_model(
        self,
        student_architecture: str,
        teacher_architecture: str,
        student_arch_params: Mapping[str, Any] | None = None,
        teacher_arch_params: Mapping[str, Any] | None = None,
        checkpoint_params: Mapping[str, Any] | None = None,
        arch_params: Mapping[str, Any] | None = None,
        run_teacher_on_eval: bool = False,
    ) -> None:
        """Name both networks; they are built when training starts.

        Args:
            student_architecture, teacher_architecture: names of timm's, torchvision's, or of ours.
            student_arch_params, teacher_arch_params: num_classes, image_size, patch_size, and options of the
                networks' constructors.
            checkpoint_params: teacher_pretrained_weights, teacher_checkpoint_path,
                student_pretrained_weights, load_checkpoint (continue the run). Without weights of a teacher
                a warning is given.
            arch_params: teacher_input_adapter, student_input_adapter: a `NormalizationAdapter` each.
            run_teacher_on_eval: has no effect: the teacher is always in eval mode, and is asked about the
                test images once.

        Raises:
            InputError: an unknown name or key, or numbers of classes that differ.
        """
        student_classes, student_options = options_of(
            student_architecture, student_arch_params, "student_arch_params"
        )
        teacher_classes, teacher_options = options_of(
            teacher_architecture, teacher_arch_params, "teacher_arch_params"
        )
        if None not in (student_classes, teacher_classes) and student_classes != teacher_classes:
            raise InputError(
                f"build_model: the student answers {student_classes} classes and the teacher "
                f"{teacher_classes}; give both the same num_classes."
            )
        student: dict[str, Any] = {
            "model": named(student_architecture, "student_architecture"),
            "options": student_options,
        }
        teacher: dict[str, Any] = {
            "model": named(teacher_architecture, "teacher_architecture"),
            "options": teacher_options,
        }
        for network, classes in ((student, student_classes), (teacher, teacher_classes)):
            if classes is not None and network["model"].startswith(("timm:", "torchvision:")):
                network["options"] = {"num_classes": classes, **network["options"]}
        self._checkpoints(Keys(checkpoint_params, "checkpoint_params", _CHECKPOINTS_GONE), student, teacher)
        self._adapters(Keys(arch_params, "arch_params", {}), student, teacher)
        self._networks = {"student": student, "teacher": teacher}

    def _checkpoints(self, keys: Keys, student: dict[str, Any], teacher: dict[str, Any]) -> None:
        path = keys.take("teacher_checkpoint_path")
        published = {"imagenet": True}
        given = keys.choice("teacher_pretrained_weights", None, published)
        if path is not None:
            teacher["weights"] = str(Path(path).expanduser().resolve())
        elif given:
            teacher["pretrained"] = True
        else:
            teacher["blank"] = True
            warn(
                "checkpoint_params: the teacher has no weights (teacher_pretrained_weights or "
                "teacher_checkpoint_path); a random teacher teaches noise."
            )
        if keys.choice("student_pretrained_weights", None, published):
            student["pretrained"] = True
        self._resume = keys.switch("load_checkpoint", False)
        keys.close()

    @staticmethod
    def _adapters(keys: Keys, student: dict[str, Any], teacher: dict[str, Any]) -> None:
        """What the networks get: pixels are normalised for each by itself."""
        found = {"teacher": keys.take("teacher_input_adapter"), "student": keys.take("student_input_adapter")}
        keys.close()
        for name, adapter in found.items():
            if adapter is not None and not isinstance(adapter, NormalizationAdapter):
                raise InputError(
                    f"arch_params.{name}_input_adapter: must be a NormalizationAdapter, given "
                    f"{type(adapter).__name__}; other adapters are limbeck.distill's teacher_adapter and "
                    "student_adapter."
                )
        if (adapter := found["teacher"]) is not None:
            teacher["input"] = _input(adapter.required)
            # The images that it starts from are normalised for the student.
            student["input"] = _input(adapter.original)
        if (adapter := found["student"]) is not None:
            student["input"] = _input(adapter.required)

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
        if self._data.smoothing and "cross_entropy" in found.objective:
            found.objective["cross_entropy"].setdefault("label_smoothing", self._data.smoothing)
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

    def train(self, training_params: Mapping[str, Any] | None = None) -> None:
        """Run it: the teacher is asked, the student trained, evaluated, exported and measured.

        Raises:
            InputError: a key that is not known, or a value that cannot be; nothing is started.
            WorkError: the work failed; what was saved stays, and load_checkpoint continues from it.
        """
        from limbeck.progress import display
        from limbeck.runner import run

        self._train_params = training_params or {}
        recipe = self.to_recipe()
        resume = self._resume and (self.folder / "recipe.yaml").exists()
        self.result = run(recipe, self.folder, resume=resume, display=display())
        if not self.result:
            return  # another process speaks
        found = self.result["student"].get("checkpoints")
        self.best_metric = found[0]["best"]["watched"] if found and "best" in found[0] else None
        self.net = _student(self.folder)


def _input(statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> dict[str, Any]:
    return {"mean": list(statistics[0]), "std": list(statistics[1])}


def _student(folder: Path) -> nn.Module:
    """The student of a run as its plain class; images are normalised for it by the caller."""
    from limbeck import models

    built = models.build(
        f"run:{folder.resolve()}", classes=2, channels=3, size=(1, 1), options={}, where="student"
    )
    return built.model.eval()
