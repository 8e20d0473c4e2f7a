"""SuperGradients' seven steps come to the recipe that they mean, run, and refuse what they cannot mean."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from limbeck.compat import super_gradients as sg
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError
from limbeck.recipe import Recipe

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs of two classes that can be told apart by their colour."""
    drawn = np.random.default_rng(0)
    for part, count in (("train", 24), ("val", 8)):
        for kind, colour in (("red", 0), ("blue", 2)):
            place = tmp_path / "photographs" / part / kind
            place.mkdir(parents=True)
            for number in range(count):
                pixels = drawn.integers(0, 90, (40, 40, 3), dtype=np.uint8)
                pixels[..., colour] += 150
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "photographs"


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


def test_the_tutorial_comes_to_its_recipe(folder: Path, tmp_path: Path) -> None:
    recipe = tutorial(folder, tmp_path).to_recipe(TRAIN)
    found = recipe.dump()
    assert found["teacher"]["model"] == "timm:beit_base_patch16_224"
    assert found["teacher"]["pretrained"] is True
    assert found["teacher"]["input"]["mean"] == [0.5, 0.5, 0.5]
    assert found["student"]["model"] == "timm:resnet50"
    assert found["student"]["input"]["std"] == [0.229, 0.224, 0.225]
    assert found["objective"]["cross_entropy"]["weight"] == pytest.approx(0.2)
    assert found["objective"]["kd"] == {"weight": 0.8, "temperature": 1.0}
    assert found["data"]["batch_size"] == 192
    assert found["data"]["eval_batch_size"] == 256
    assert found["data"]["validation"] == 0.02
    assert found["data"]["repeats"] == 3
    assert found["data"]["mix"] == {
        "mixup": 0.2,
        "cutmix": 1.0,
        "probability": 1.0,
        "switch": 0.5,
        "mode": "batch",
    }
    assert found["data"]["views"] == {
        "size": 224,
        "resize": 256,
        "interpolation": "random",
        "rand_augment": "rand-m7-mstd0.5",
    }
    train = found["train"]
    assert train["optimizer"] == {"name": "lamb", "lr": 5e-3, "weight_decay": 0.02}
    assert train["schedule"]["cooldown_epochs"] == 10
    assert train["schedule"]["final"] == 0.01
    assert train["ema"] == {"decay": 0.9999, "schedule": "exponential", "beta": 15.0}
    assert train["checkpoint"] == {"take": "average", "best": 10, "watch": "accuracy", "mode": "max"}
    assert train["decay_bias_and_norm"] is False
    assert train["workers"] == 8
    assert found["metrics"] == {"top5": {}}
    text = tmp_path / "printed.yaml"
    text.write_text(recipe.to_yaml())
    assert Recipe.load(text).dump() == found  # what is printed can be run without this face


def test_it_is_the_ready_recipe(folder: Path, tmp_path: Path) -> None:
    """`recipes/imagenet-beit-resnet50.yaml` is the same training, on eight processes."""
    ready = Recipe.load(Path(__file__).parents[2] / "recipes/imagenet-beit-resnet50.yaml").dump()
    own = tutorial(folder, tmp_path).to_recipe({**TRAIN, "mixed_precision": False}).dump()
    for key in ("objective", "metrics"):
        assert own[key] == ready[key]
    for key in ("optimizer", "schedule", "ema", "decay_bias_and_norm", "epochs", "workers"):
        assert own["train"][key] == ready["train"][key]
    for key in ("take", "best", "watch"):
        assert own["train"]["checkpoint"][key] == ready["train"]["checkpoint"][key]
    assert own["data"]["batch_size"] * 8 == ready["data"]["batch_size"]
    for key in ("mix", "repeats", "validation", "eval_batch_size"):
        assert own["data"][key] == ready["data"][key]


def small(folder: Path, root: Path, teacher: Path | None) -> sg.KDModel:
    kd_model = sg.KDModel(experiment_name="small", device="cpu", ckpt_root_dir=root)
    data = {**DATA, "crop_size": 32, "resize_size": 36, "batch_size": 8, "val_batch_size": 16}
    dataset = sg.ImageNetDatasetInterface(data_dir=folder, dataset_params=data, watched=0.2)
    kd_model.connect_dataset_interface(dataset)
    kd_model.build_model(
        student_architecture="resnet8",
        teacher_architecture="resnet20",
        student_arch_params={"num_classes": 2},
        teacher_arch_params={"num_classes": 2},
        checkpoint_params={} if teacher is None else {"teacher_checkpoint_path": teacher},
    )
    return kd_model


@pytest.mark.filterwarnings("default")
def test_the_seven_steps_run(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    from limbeck import weights
    from limbeck.students.cifar import resnet20

    weights.save(resnet20(num_classes=2), tmp_path / "teacher.safetensors")
    kd_model = small(folder, tmp_path / "runs", tmp_path / "teacher.safetensors")
    kd_model.train({**TRAIN, **SHORT, "valid_metrics_list": [sg.Accuracy()], "batch_accumulate": 2})
    assert kd_model.result is not None
    assert kd_model.result["student"]["taken"] == ["average"]
    assert kd_model.result["teacher"]["frozen"] is True
    assert 0 <= kd_model.best_metric <= 1  # type: ignore[operator]
    assert kd_model.net is not None
    assert kd_model.net(torch.rand(2, 3, 32, 32)).shape == (2, 2)
    assert not kd_model.net.training
    assert (tmp_path / "runs/small/report.html").exists()


def test_a_teacher_without_weights_is_warned_of_and_taken(folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="a random teacher teaches noise"):
        kd_model = small(folder, tmp_path, None)
    recipe = kd_model.to_recipe({**TRAIN, "max_epochs": 1, "lr_cooldown_epochs": 0, "lr_warmup_epochs": 0})
    assert recipe.teacher is not None
    assert recipe.teacher.blank is True


def test_mixed_precision_on_a_cpu_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="no effect on a CPU"):
        assert translate({**TRAIN, "mixed_precision": True}, "cpu", watches=True).train["precision"] == "auto"


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"lr_mode": "step", "lr_cooldown_epochs": 0, "lr_updates": [3, 6], "lr_decay_factor": 0.2},
         "schedule",
         {"name": "step", "warmup_epochs": 5.0, "milestones": [3, 6], "gamma": 0.2}),
        ({"lr_mode": "poly"}, "schedule",
         {"name": "polynomial", "warmup_epochs": 5.0, "cooldown_epochs": 10.0}),
        ({"cosine_final_lr_ratio": 0.1}, "schedule",
         {"name": "cosine", "warmup_epochs": 5.0, "cooldown_epochs": 10.0, "final": 0.1}),
        ({"ema_params": {"decay": 0.9, "decay_type": "threshold"}}, "ema",
         {"decay": 0.9, "schedule": "threshold", "beta": 15.0}),
        ({"optimizer": "SGD", "optimizer_params": {"momentum": 0.9}}, "optimizer",
         {"name": "sgd", "lr": 5e-3, "momentum": 0.9}),
        ({"metric_to_watch": "KDLogitsLoss/Loss", "greater_metric_to_watch_is_better": False,
          "average_best_models": False}, "checkpoint",
         {"take": "last", "best": 10, "watch": "loss", "mode": "min"}),
        ({"batch_accumulate": 4}, "accumulate", 4),
        ({"clip_grad_norm": 2.0}, "clip", 2.0),
    ],
)  # fmt: skip
def test_what_single_parameters_come_to(changes: dict[str, Any], key: str, expected: object) -> None:
    assert translate({**TRAIN, **changes}, "cpu", watches=True).train[key] == expected


def test_accumulated_batches_are_one_batch_here(folder: Path, tmp_path: Path) -> None:
    recipe = tutorial(folder, tmp_path).to_recipe({**TRAIN, "batch_accumulate": 4})
    assert recipe.data.batch_size == 4 * 192
    assert recipe.train.accumulate == 4


def test_a_test_folder_leaves_val_for_watching(folder: Path, tmp_path: Path) -> None:
    (folder / "test").mkdir()
    (folder / "val" / "red").rename(folder / "test" / "red")
    (folder / "val" / "blue").rename(folder / "test" / "blue")
    assert tutorial(folder, tmp_path).to_recipe(TRAIN).data.validation == 0.0


WRONG_TRAIN = [
    ({"max_epoch": 3}, 'unknown key "max_epoch". Did you mean "max_epochs"'),
    ({"lr_mode": "cosin"}, 'unknown lr_mode "cosin". Did you mean "cosine"'),
    ({"phase_callbacks": []}, "there are no callbacks here"),
    ({"loss": "cross_entropy"}, "must be KDLogitsLoss, given str"),
    ({"loss": sg.KDLogitsLoss(nn.MSELoss())}, "task_loss_fn must be LabelSmoothingCrossEntropyLoss"),
    ({"loss": sg.KDLogitsLoss(nn.CrossEntropyLoss(), nn.MSELoss())}, "distillation_loss_fn MSELoss"),
    ({"ema_params": {"beta": 15, "decy": 1}}, 'Did you mean "decay"'),
    ({"metric_to_watch": "Acuracy"}, 'Did you mean "accuracy"'),
    ({"valid_metrics_list": [nn.Linear(1, 1)]}, "must be Accuracy"),
    ({"loss_logging_items_names": ["Loss"]}, "reports 3 parts"),
    ({"initial_lr": 0}, "initial_lr: is missing"),
    ({"batch_accumulate": 0}, "must be a whole number from 1 up"),
    ({"lr_updates": [3]}, "are for lr_mode: step"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_TRAIN, ids=[next(iter(c)) for c, _ in WRONG_TRAIN])
def test_wrong_train_params_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        translate({**TRAIN, **changes}, "cpu", watches=True)


def test_missing_ones_are_asked_for() -> None:
    for key in ("max_epochs", "loss"):
        with pytest.raises(InputError, match=f"{key}: is missing"):
            translate({k: v for k, v in TRAIN.items() if k != key}, "cpu", watches=True)
    with pytest.raises(InputError, match="there is none: ImageNetDatasetInterface"):
        translate(TRAIN, "cpu", watches=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batchsize": 3}, 'Did you mean "batch_size"'),
        ({"cutmix_params": {"mixup": 1}}, 'Did you mean "mixup_alpha"'),
        ({"train_interpolation": "nearest"}, "unknown train_interpolation"),
        ({"random_erase_value": 7}, 'must be "random" or 0'),
        ({"img_mean": [0.5]}, "each network normalises for itself"),
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
        ({"teacher_arch_params": {"num_classes": 10}}, "the student answers 1000 classes and the teacher 10"),
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


# The modules themselves


def test_the_loss_is_theirs() -> None:
    drawn = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 3, generator=drawn) for _ in range(2))
    target = torch.tensor([0, 2, 1, 1])
    loss = sg.KDLogitsLoss(sg.LabelSmoothingCrossEntropyLoss(smooth_eps=0.1), distillation_loss_coeff=0.8)
    found, parts = loss(sg.KDOutput(student, teacher), target)
    task = divergence = 0.0
    for z, t, y in zip(student.tolist(), teacher.tolist(), target.tolist(), strict=True):
        logs = [v - math.log(sum(math.exp(w) for w in z)) for v in z]
        soft = [math.exp(v) / sum(math.exp(w) for w in t) for v in t]
        task -= sum((0.9 * (c == y) + 0.1 / 3) * logs[c] for c in range(3)) / 4
        divergence += sum(p * (math.log(p) - q) for p, q in zip(soft, logs, strict=True)) / 4
    assert loss.component_names == ["Loss", "Task Loss", "Distillation Loss"]
    assert parts.tolist() == pytest.approx([0.2 * task + 0.8 * divergence, task, divergence], rel=1e-5)
    assert float(found) == pytest.approx(0.2 * task + 0.8 * divergence, rel=1e-5)
    assert not parts.requires_grad


def test_the_adapter_is_theirs() -> None:
    drawn = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    m_o, s_o, m_r, s_r = (torch.tensor(v).view(3, 1, 1) for v in NORMALISATION.values())
    found = sg.NormalizationAdapter(**NORMALISATION)((drawn - m_o) / s_o)
    torch.testing.assert_close(found, (drawn - m_r) / s_r)
    with pytest.raises(InputError, match="as many numbers"):
        sg.NormalizationAdapter([0.5], [1.0], [0.5, 0.5], [1.0])


@pytest.mark.parametrize("kind", [sg.ChannelWiseKnowledgeDistillationLoss, sg.SegKDLoss])
def test_segmentation_says_what_is_here_instead(kind: Any) -> None:
    with pytest.raises(InputError, match="not supported; "):
        kind(temperature=3)


def test_the_later_names_train_plain_modules(tmp_path: Path) -> None:
    from limbeck.students.small import convnet

    torch.manual_seed(0)
    images, labels = torch.rand(40, 1, 8, 8), torch.arange(40) % 2
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=10)
    student, teacher = convnet(num_classes=2, width=4), convnet(num_classes=2, width=6)
    before = {n: v.clone() for n, v in teacher.state_dict().items()}
    trainer = sg.KDTrainer("later", device="cpu", ckpt_root_dir=tmp_path)
    params = {**TRAIN, "max_epochs": 2, "lr_warmup_epochs": 0, "lr_cooldown_epochs": 0}
    params |= {"valid_metrics_list": [sg.Accuracy()], "average_best_models": False}
    found = trainer.train(
        student=student,
        teacher=teacher,
        kd_architecture="kd_module",
        kd_arch_params={},
        run_teacher_on_eval=True,
        training_params=params,
        train_loader=loader,
        valid_loader=loader,
    )
    assert found.evaluation is not None
    assert found.student is student
    assert all(torch.equal(v, before[n]) for n, v in teacher.state_dict().items())
    assert (tmp_path / "later/student.safetensors").exists()
    with pytest.raises(InputError, match='Did you mean "teacher_input_adapter"'):
        trainer.train(student=student, teacher=teacher, training_params=params, train_loader=loader,
                      kd_arch_params={"teacher_adapter": None})  # fmt: skip


def test_a_network_by_name() -> None:
    assert sg.get("resnet8", num_classes=7)(torch.rand(1, 3, 32, 32)).shape == (1, 7)
    with pytest.raises(InputError, match="pretrained_weights"):
        sg.get("resnet18", pretrained_weights="coco")


def test_cross_entropy_without_smoothing_takes_soft_targets() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    shares = torch.softmax(torch.randn(3, 4, generator=torch.Generator().manual_seed(2)), 1)
    loss = sg.LabelSmoothingCrossEntropyLoss()
    torch.testing.assert_close(loss(logits, shares), F.cross_entropy(logits, shares))
