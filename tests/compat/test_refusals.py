"""What the seven steps cannot mean here is refused, with what there is instead or the nearest match."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn
from words import DATA, NORMALISATION, TRAIN

from limbeck.compat import super_gradients as sg
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError

WRONG_TRAIN = [
    ({"max_epoch": 3}, 'unknown key "max_epoch". Did you mean "max_epochs"'),
    ({"lr_mode": "cosin"}, 'unknown lr_mode "cosin". Did you mean "cosine"'),
    ({"phase_callbacks": [print]}, "there are no callbacks here"),
    ({"loss": "cross_entropy"}, "must be KDLogitsLoss, given str"),
    ({"loss": sg.KDLogitsLoss(nn.MSELoss())}, "task_loss_fn must be LabelSmoothingCrossEntropyLoss"),
    ({"loss": sg.KDLogitsLoss(nn.CrossEntropyLoss(), nn.MSELoss())}, "distillation_loss_fn MSELoss"),
    ({"ema_params": {"beta": 15, "decy": 1}}, 'Did you mean "decay"'),
    ({"metric_to_watch": "Acuracy"}, 'Did you mean "accuracy"'),
    ({"valid_metrics_list": [nn.Linear(1, 1)]}, "must be Accuracy"),
    ({"loss_logging_items_names": ["Loss"]}, "reports 3 parts"),
    ({"initial_lr": 0}, "initial_lr: is missing"),
    ({"batch_accumulate": 0}, "must be a whole number from 1 up"),
    ({"lr_updates": [3]}, "is for lr_mode: step"),
    ({"lr_decay_factor": 0.2}, "is for lr_mode: step"),
    ({"lr_mode": "step", "cosine_final_lr_ratio": 0.5, "lr_updates": [3]}, "is for lr_mode: cosine"),
    ({"lr_mode": "step", "lr_updates": [305]}, "before the cool-down"),
    ({"lr_mode": "step", "lr_updates": "3"}, "must be a list of epochs"),
    (
        {"max_epochs": 14},
        r"train_params\.lr_warmup_epochs: 5 and lr_cooldown_epochs: 10 must fit into max_epochs: 14\.",
    ),
    (
        {"max_epochs": 4, "lr_mode": "constant"},
        r"train_params\.lr_warmup_epochs: 5 must fit into max_epochs: 4\.",
    ),
    (
        {"max_epochs": 9, "lr_warmup_epochs": 0},
        r"train_params\.lr_cooldown_epochs: 10 must fit into max_epochs: 9\.",
    ),
    ({"optimizer_params": {"lr": 1}}, "give initial_lr"),
    ({"metric_to_watch": "Top5", "valid_metrics_list": []}, "is not computed; add it to valid_metrics_list"),
    ({"metric_to_watch": "Loss"}, "must be False where the loss is watched"),
    ({"save_model": False}, "the state is saved by the clock"),
    ({"sg_logger": "wandb_sg_logger"}, "names trackers"),
    ({"warmup_initial_lr": 1e-6}, "the first step takes"),
    ({"silent_mode": 1}, "must be True or False"),
    ({"clip_grad_norm": "x"}, r"train_params\.clip_grad_norm: must be a number from 0 up, given 'x'"),
    ({"clip_grad_norm": -1}, r"train_params\.clip_grad_norm: must be a number from 0 up"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_TRAIN, ids=["-".join(c) for c, _ in WRONG_TRAIN])
def test_wrong_train_params_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        translate({**TRAIN, **changes}, "cpu", watches=True)


def test_missing_ones_are_asked_for() -> None:
    for key in ("max_epochs", "loss"):
        with pytest.raises(InputError, match=f"{key}: is missing"):
            translate({k: v for k, v in TRAIN.items() if k != key}, "cpu", watches=True)


def test_a_whole_set_of_their_defaults_is_taken() -> None:
    """SuperGradients' own sets hold every key, most with a value that asks for nothing."""
    theirs = {
        "batch_accumulate": 1, "ckpt_best_name": "ckpt_best.pth", "clip_grad_norm": None,
        "cosine_final_lr_ratio": 0.01, "criterion_params": {}, "ckpt_name": "ckpt_latest.pth",
        "dataset_statistics": False, "ema_params": {}, "enable_qat": False, "launch_tensorboard": False,
        "load_opt_params": True, "log_installed_packages": True, "lr_schedule_function": None,
        "lr_updates": [], "lr_warmup_steps": 0, "max_train_batches": None, "max_valid_batches": None,
        "phase_callbacks": None, "precise_bn": False, "precise_bn_batch_size": None, "resume": False,
        "resume_path": None, "run_validation_freq": 1, "save_ckpt_epoch_list": [], "save_model": True,
        "save_tensorboard_to_s3": False, "seed": 42, "sg_logger": "base_sg_logger", "silent_mode": False,
        "step_lr_update_freq": None, "sync_bn": False, "tb_files_user_prompt": False,
        "tensorboard_port": None, "warmup_initial_lr": None, "warmup_mode": "linear_epoch_step",
    }  # fmt: skip
    found = translate({**theirs, **TRAIN}, "cpu", watches=True)
    assert found.train == translate(TRAIN, "cpu", watches=True).train
    assert found.seed == 42


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: sg.LabelSmoothingCrossEntropyLoss(smooth_eps=1.0), "smooth_eps must be in"),
        (lambda: sg.LabelSmoothingCrossEntropyLoss(smooth_ep=0.1), 'Did you mean "smooth_eps"'),
        (lambda: sg.LabelSmoothingCrossEntropyLoss(ignore_index=3), "has the target -1"),
        (lambda: sg.LabelSmoothingCrossEntropyLoss(weight=1), "one number a class"),  # type: ignore[arg-type]
        (lambda: sg.KDLogitsLoss(nn.CrossEntropyLoss(), coeff=1), "unknown key"),
        (lambda: sg.KDLogitsLoss(nn.CrossEntropyLoss(), None, 1.5), "a number from 0 to 1"),
        (lambda: sg.KDLogitsLoss("ce"), "must be a loss as an object"),  # type: ignore[arg-type]
        (lambda: sg.KDModel(experiment_nam="x"), 'Did you mean "experiment_name"'),
        (lambda: sg.KDModel(), "experiment_name must be"),
        (lambda: sg.KDModel("x", train_loader=[1]), "KDTrainer takes loaders"),
        (lambda: sg.KDModel("x", multi_gpu="many"), "must be one of MultiGPUMode.OFF"),
        (lambda: sg.KDModel("x").connect_dataset_interface(dataset=1), "unknown key"),
        (lambda: sg.KDModel("x").build_model(student_archtecture="y"), 'Did you mean "student_architecture"'),
        (lambda: sg.KDModel("x").build_model("resnet50"), "teacher_architecture is missing"),
        (lambda: sg.KDModel("x").build_model(architecture="own"), 'must be "kd_module"'),
        (lambda: sg.KDModel("x").train(train_parms={}), "unknown key"),
        (lambda: sg.ImageNetDatasetInterface(), "data_dir is missing"),
        (lambda: sg.ImageNetDatasetInterface(DATA), "must be the path of a folder"),  # type: ignore[arg-type]
        (lambda: sg.ImageNetDatasetInterface("x", watched=1.0), "a share from 0"),
        (lambda: sg.KDTrainer("x", ckpt_root="y"), 'Did you mean "ckpt_root_dir"'),
        (lambda: sg.KDTrainer("x").train(model=nn.Identity()), "give student and teacher"),
        (lambda: sg.KDTrainer("x").train(student="resnet50"), "must be a network, given str"),
        (lambda: sg.NormalizationAdapter("abc", [1.0], [1.0], [1.0]), "one number a channel"),
        (lambda: sg.models.get("resnet18", strict_load=False), "always has to fit"),
        (lambda: sg.models.get("resnet18", {"image_size": 64}), "images of any size"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(wrong: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match=message):
        wrong()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 3}, 'Did you mean "batch_size"'),
        ({"cutmix_params": {"mixup": 1}}, 'Did you mean "mixup_alpha"'),
        ({"train_interpolation": "nearest"}, "unknown train_interpolation"),
        ({"random_erase_value": 7}, 'must be "random" or 0'),
        ({"img_mean": [0.5]}, "each network normalises for itself"),
        ({"cutmix_params": None}, "cutmix_params: is missing"),
        ({"cutmix_params": {"cutmix_minmax": [0.1, 0.9]}}, "is not supported"),
        ({"color_jitter": 0.4}, "rand_augment_config_string varies colours"),
        ({"crop_size": 0}, "must be a whole number from 1 up"),
    ],
)
def test_wrong_dataset_params_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sg.ImageNetDatasetInterface("anywhere", {**DATA, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student_architecture": "resnet5"}, 'student_architecture: unknown architecture "resnet5"'),
        ({"student_arch_params": {"num_classes": 10}}, "the student answers 10 classes and the teacher 1000"),
        ({"teacher_arch_params": {"num_classes": 10}}, "published weights answer 1000 classes, given 10"),
        ({"student_arch_params": {"image_size": [64, 32]}}, "one side in pixels, or two equal ones"),
        ({"run_teacher_on_eval": "yes"}, "must be True or False"),
        ({"checkpoint_params": {"teacher_checkpoint_path": 3}}, "must be a path"),
        ({"arch_params": {"teacher_input_adapter": sg.NormalizationAdapter(**NORMALISATION),
                          "student_input_adapter": sg.NormalizationAdapter(*[[1.0] * 3] * 4)}},
         "must be the same in both"),
        ({"teacher_arch_params": {"patch_size": [8, 8]}}, "has 16, given 8"),
        ({"teacher_arch_params": {"image_size": [384, 384]}}, "has 224, given 384"),
        ({"checkpoint_params": {"pretrained_weights": "imagenet"}}, "of which network"),
        ({"checkpoint_params": {"teacher_pretrained_weights": "coco"}}, "unknown teacher_pretrained_weights"),
        ({"checkpoint_params": {"teacher_pretrained": 1}}, "Did you mean"),
        ({"arch_params": {"teacher_input_adapter": nn.Identity()}}, "must be a NormalizationAdapter"),
        ({"arch_params": {"teacher_adapter": None}}, 'Did you mean "teacher_input_adapter"'),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:checkpoint_params")
def test_wrong_networks_are_refused(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "student_architecture": "resnet50",
        "teacher_architecture": "beit_base_patch16_224",
        "student_arch_params": {"num_classes": 1000},
        "checkpoint_params": {"teacher_pretrained_weights": "imagenet"},
    }
    with pytest.raises(InputError, match=message):
        sg.KDModel("x").build_model(**{**given, **changes})


def test_what_asks_for_nothing_is_taken() -> None:
    quiet = {
        "color_jitter": 0.0,
        "img_mean": [0.485, 0.456, 0.406],
        "train_loader_drop_last": True,
        "s3_link": None,
    }
    sg.ImageNetDatasetInterface("anywhere", {**DATA, **quiet, "train_interpolation": "default"})


def test_steps_in_the_wrong_order_say_which_comes_first(folder: Path) -> None:
    kd_model = sg.KDModel("x")
    with pytest.raises(InputError, match="connect_dataset_interface"):
        kd_model.to_recipe(TRAIN)
    kd_model.connect_dataset_interface(sg.ImageNetDatasetInterface(folder))
    with pytest.raises(InputError, match="build_model"):
        kd_model.to_recipe(TRAIN)


def test_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="torchrun --nproc-per-node N"):
        sg.KDModel("x", multi_gpu=sg.MultiGPUMode.DISTRIBUTED_DATA_PARALLEL)
    with pytest.raises(InputError, match="DATA_PARALLEL splits each batch"):
        sg.KDModel("x", multi_gpu=sg.MultiGPUMode.DATA_PARALLEL)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="OFF, but 2 processes"):
        sg.KDModel("x", multi_gpu=sg.MultiGPUMode.OFF)
    sg.KDModel("x", multi_gpu=sg.MultiGPUMode.AUTO)
