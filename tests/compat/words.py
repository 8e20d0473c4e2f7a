"""The tutorial, as SuperGradients' users write it; in full, and short enough to run."""

from pathlib import Path
from typing import Any

from limbeck.compat import super_gradients as sg

TRAIN: dict[str, Any] = {
    "max_epochs": 310,
    "lr_mode": "cosine",
    "lr_warmup_epochs": 5,
    "lr_cooldown_epochs": 10,
    "initial_lr": 5e-3,
    "ema": True,
    "mixed_precision": False,
    "loss": sg.KDLogitsLoss(sg.LabelSmoothingCrossEntropyLoss(), distillation_loss_coeff=0.8),
    "optimizer": "Lamb",
    "optimizer_params": {"weight_decay": 0.02},
    "train_metrics_list": [sg.Accuracy()],
    "valid_metrics_list": [sg.Accuracy(), sg.Top5()],
    "metric_to_watch": "Accuracy",
    "greater_metric_to_watch_is_better": True,
    "loss_logging_items_names": ["Loss", "Task Loss", "Distillation Loss"],
    "average_best_models": True,
    "zero_weight_decay_on_bias_and_bn": True,
    "batch_accumulate": 1,
}
DATA: dict[str, Any] = {
    "resize_size": 256,
    "crop_size": 224,
    "batch_size": 192,
    "val_batch_size": 256,
    "random_erase_prob": 0,
    "random_erase_value": "random",
    "train_interpolation": "random",
    "rand_augment_config_string": "rand-m7-mstd0.5",
    "cutmix": True,
    "cutmix_params": {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "label_smoothing": 0.0},
    "aug_repeat_count": 3,
}
SHORT: dict[str, Any] = {"max_epochs": 3, "lr_warmup_epochs": 1, "lr_cooldown_epochs": 1}
NORMALISATION: dict[str, Any] = {
    "mean_original": [0.485, 0.456, 0.406],
    "std_original": [0.229, 0.224, 0.225],
    "mean_required": [0.5, 0.5, 0.5],
    "std_required": [0.5, 0.5, 0.5],
}


def tutorial(folder: Path, root: Path, **changes: Any) -> sg.KDModel:
    """The seven steps as the tutorial writes them, up to the training."""
    kd_model = sg.KDModel(
        experiment_name="tutorial", device="cpu", multi_gpu=sg.MultiGPUMode.OFF, ckpt_root_dir=root
    )
    dataset = sg.ImageNetDatasetInterface(data_dir=folder, dataset_params={**DATA, **changes})
    kd_model.connect_dataset_interface(dataset, data_loader_num_workers=8)
    kd_model.build_model(
        student_architecture="resnet50",
        teacher_architecture="beit_base_patch16_224",
        student_arch_params={"num_classes": 1000},
        teacher_arch_params={"num_classes": 1000, "image_size": [224, 224], "patch_size": [16, 16]},
        checkpoint_params={"teacher_pretrained_weights": "imagenet"},
        arch_params={"teacher_input_adapter": sg.NormalizationAdapter(**NORMALISATION)},
        run_teacher_on_eval=True,
    )
    return kd_model


def small(folder: Path, root: Path, teacher: Path | None, **checkpoints: Any) -> sg.KDModel:
    kd_model = sg.KDModel(experiment_name="small", device="cpu", ckpt_root_dir=root)
    data = {**DATA, "crop_size": 32, "resize_size": 36, "batch_size": 8, "val_batch_size": 16}
    dataset = sg.ImageNetDatasetInterface(data_dir=folder, dataset_params=data, watched=0.2)
    kd_model.connect_dataset_interface(dataset)
    kd_model.build_model(
        student_architecture="resnet8",
        teacher_architecture="resnet20",
        student_arch_params={"num_classes": 2},
        teacher_arch_params={"num_classes": 2},
        checkpoint_params={
            **({} if teacher is None else {"teacher_checkpoint_path": teacher}),
            **checkpoints,
        },
    )
    return kd_model
