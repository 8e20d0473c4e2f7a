"""SuperGradients' seven steps come to the recipe that they mean, and run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from words import DATA, NORMALISATION, SHORT, TRAIN, small, tutorial

from limbeck.compat import super_gradients as sg
from limbeck.compat.super_gradients.training import translate
from limbeck.errors import InputError
from limbeck.recipe import Recipe


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


@pytest.mark.filterwarnings("default")
def test_load_checkpoint_goes_on_with_the_run_of_the_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run that was killed; and `silent_mode` says nothing while it works."""
    from limbeck import phase

    params = {**TRAIN, **SHORT, "valid_metrics_list": [], "silent_mode": True}
    kd_model = small(folder, tmp_path / "runs", None)
    ended = phase.Phase._epoch

    def killed(self: Any, step: Any, *rest: Any) -> None:
        if step.epoch == 2:
            raise KeyboardInterrupt
        ended(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(phase.Phase, "_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            kd_model.train(params)
    again = small(folder, tmp_path / "runs", None, load_checkpoint=True)
    again.train(params)
    assert again.result is not None
    assert len(again.result["student"]["accuracy"]) == 1
    assert "epoch" not in capsys.readouterr().err


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
    with pytest.raises(InputError, match="holds a run already; another name"):
        kd_model.train({**TRAIN, **SHORT})


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
         {"name": "sgd", "lr": 5e-3, "momentum": 0.9, "weight_decay": 1e-4}),
        ({"optimizer": "RMSprop", "optimizer_params": {"momentum": 0.5}}, "optimizer",
         {"name": "rmsprop", "lr": 5e-3, "momentum": 0.5, "weight_decay": 1e-4}),
        ({"optimizer": "AdamW"}, "optimizer", {"name": "adamw", "lr": 5e-3, "weight_decay": 0.02}),
        ({"lr_mode": "step", "lr_updates": np.array([3, 6, 305]), "lr_decay_factor": np.float32(0.5)},
         "schedule", {"name": "step", "warmup_epochs": 5.0, "milestones": [3, 6], "gamma": 0.5}),
        ({"lr_mode": None}, "schedule", {"name": "constant", "warmup_epochs": 5.0}),
        ({"ema_params": {"decay": 0.99, "exp_activation": False, "beta": 10}}, "ema",
         {"decay": 0.99, "schedule": "constant", "beta": 10.0}),
        ({"torch_compile": True}, "compile", True),
        ({"metric_to_watch": "KDLogitsLoss/Loss", "greater_metric_to_watch_is_better": False,
          "average_best_models": False}, "checkpoint",
         {"take": "last", "best": 10, "watch": "loss", "mode": "min"}),
        ({"batch_accumulate": 4}, "accumulate", 4),
        ({"clip_grad_norm": 2.0}, "clip", 2.0),
    ],
)  # fmt: skip
def test_what_single_parameters_come_to(changes: dict[str, Any], key: str, expected: object) -> None:
    assert translate({**TRAIN, **changes}, "cpu", watches=True).train[key] == expected


@pytest.mark.parametrize("off", [None, 0, 0.0])
def test_no_norm_to_clip_to_means_no_clipping(off: object) -> None:
    assert "clip" not in translate({**TRAIN, "clip_grad_norm": off}, "cpu", watches=True).train


def test_accumulated_batches_are_one_batch_here(folder: Path, tmp_path: Path) -> None:
    recipe = tutorial(folder, tmp_path).to_recipe({**TRAIN, "batch_accumulate": 4})
    assert recipe.data.batch_size == 4 * 192
    assert recipe.train.accumulate == 4


def test_a_test_folder_leaves_val_for_watching(folder: Path, tmp_path: Path) -> None:
    (folder / "test").mkdir()
    (folder / "val" / "red").rename(folder / "test" / "red")
    (folder / "val" / "blue").rename(folder / "test" / "blue")
    assert tutorial(folder, tmp_path).to_recipe(TRAIN).data.validation == 0.0


def test_an_average_of_the_best_needs_something_to_watch(folder: Path, tmp_path: Path) -> None:
    kd_model = tutorial(folder, tmp_path)
    kd_model.connect_dataset_interface(sg.ImageNetDatasetInterface(folder, DATA, watched=0))
    with pytest.raises(InputError, match="there is none: ImageNetDatasetInterface"):
        kd_model.to_recipe(TRAIN)
    unsaid = {key: value for key, value in TRAIN.items() if key != "average_best_models"}
    assert kd_model.to_recipe(unsaid).train.checkpoint.take == "last"


def test_a_figure_is_watched_as_is_usual_where_nothing_is_said() -> None:
    unsaid = {key: value for key, value in TRAIN.items() if "greater" not in key}
    found = translate({**unsaid, "metric_to_watch": "Loss"}, "cpu", watches=True)
    assert found.train["checkpoint"]["watch"] == "loss"
    assert found.train["checkpoint"]["mode"] is None


def test_names_of_losses_that_have_no_effect_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="loss_logging_items_names: has no effect"):
        translate({**TRAIN, "loss_logging_items_names": ["a", "b", "c"]}, "cpu", watches=True)


def test_smoothing_of_the_mix_and_of_the_loss_both_act(folder: Path, tmp_path: Path) -> None:
    """One after the other they are one smoothing: 1 - (1 - 0.1)(1 - 0.2)."""
    mix = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "label_smoothing": 0.2}
    loss = sg.KDLogitsLoss(sg.LabelSmoothingCrossEntropyLoss(smooth_eps=0.1), distillation_loss_coeff=0.5)
    recipe = tutorial(folder, tmp_path, cutmix_params=mix).to_recipe({**TRAIN, "loss": loss})
    assert recipe.dump()["objective"]["cross_entropy"]["label_smoothing"] == pytest.approx(0.28)
    off = tutorial(folder, tmp_path, cutmix_params=mix, cutmix=False).to_recipe({**TRAIN, "loss": loss})
    assert off.dump()["objective"]["cross_entropy"]["label_smoothing"] == 0.1
    assert off.data.mix is None


def test_what_a_mix_leaves_out_is_as_it_is_there() -> None:
    found = sg.ImageNetDatasetInterface("x", {**DATA, "cutmix_params": {"cutmix_alpha": 1.0}})
    assert found.mix is not None
    assert found.mix["mixup"] == 1.0
    assert found.smoothing == 0.1


def test_classes_of_the_mix_must_be_those_of_the_student(folder: Path, tmp_path: Path) -> None:
    params = {**DATA["cutmix_params"], "num_classes": 10}
    with pytest.raises(InputError, match="10, but the student answers 1000"):
        tutorial(folder, tmp_path, cutmix_params=params).to_recipe(TRAIN)


@pytest.mark.filterwarnings("ignore:checkpoint_params")
@pytest.mark.parametrize(
    ("student", "teacher", "checkpoints", "message"),
    [
        (
            1000,
            1000,
            {},
            r"^student_arch_params\.num_classes and teacher_arch_params\.num_classes: data_dir holds 2 "
            r"classes, given 1000; give 2\.$",
        ),
        (None, 3, {}, r"^teacher_arch_params\.num_classes: data_dir holds 2 classes, given 3; give 2\.$"),
        (
            None,
            None,
            {"teacher_pretrained_weights": "imagenet"},
            r"^checkpoint_params\.teacher_pretrained_weights: published weights answer 1000 classes, and "
            r"data_dir holds 2\. Give teacher_checkpoint_path",
        ),
        (
            1000,
            1000,
            {"teacher_pretrained_weights": "imagenet"},
            r"^student_arch_params\.num_classes: data_dir holds 2 classes, given 1000; give 2\. "
            r"checkpoint_params\.teacher_pretrained_weights: published weights answer 1000",
        ),
    ],
)
def test_classes_must_be_those_of_the_folder(
    folder: Path, tmp_path: Path, student: Any, teacher: Any, checkpoints: dict[str, Any], message: str
) -> None:
    """In this face's words: a recipe's `teacher.classes` cannot be given here."""
    kd_model = tutorial(folder, tmp_path / "runs")
    params = [{} if number is None else {"num_classes": number} for number in (student, teacher)]
    kd_model.build_model("resnet18", "resnet34", *params, checkpoint_params=checkpoints)
    with pytest.raises(InputError, match=message):
        kd_model.train(TRAIN)
    assert not (tmp_path / "runs").exists()


def test_class_weights_are_told_of() -> None:
    loss = sg.KDLogitsLoss(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0])), distillation_loss_coeff=0.5)
    with pytest.warns(UserWarning, match="not over their weights"):
        found = translate({**TRAIN, "loss": loss}, "cpu", watches=True).objective
    assert found["cross_entropy"] == {"weight": 0.5, "class_weights": [1.0, 2.0]}


def test_sizes_of_images_come_to_the_input(folder: Path, tmp_path: Path) -> None:
    kd_model = sg.KDModel("x", device="cpu", ckpt_root_dir=tmp_path)
    kd_model.connect_dataset_interface(sg.ImageNetDatasetInterface(folder, DATA))
    kd_model.build_model(
        "mobilenetv3_large_100",
        "beit_base_patch16_224",
        {"num_classes": 1000, "image_size": [128, 128]},
        checkpoint_params={"teacher_pretrained_weights": "imagenet"},
        arch_params={"student_input_adapter": sg.NormalizationAdapter(**NORMALISATION)},
    )
    found = kd_model.to_recipe(TRAIN).student.input
    assert found is not None
    assert (found.size, found.mean) == (128, (0.5, 0.5, 0.5))


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_an_adapter_says_what_the_other_network_gets(folder: Path, tmp_path: Path, who: str) -> None:
    """The images are normalised as its original says; the network without an adapter gets them so."""
    kd_model = tutorial(folder, tmp_path)
    adapter = sg.NormalizationAdapter(
        **{**NORMALISATION, "mean_original": [0.3, 0.4, 0.5], "std_original": [0.2] * 3}
    )
    kd_model.build_model(
        "resnet18",
        "resnet34",
        checkpoint_params={"teacher_pretrained_weights": "imagenet"},
        arch_params={f"{who}_input_adapter": adapter},
    )
    recipe = kd_model.to_recipe(TRAIN)
    assert recipe.teacher is not None
    found = {"student": recipe.student.input, "teacher": recipe.teacher.input}
    other = "teacher" if who == "student" else "student"
    assert found[who] is not None
    assert found[other] is not None
    assert (found[who].mean, found[who].std) == ((0.5,) * 3, (0.5,) * 3)
    assert (found[other].mean, found[other].std) == ((0.3, 0.4, 0.5), (0.2,) * 3)


def test_a_file_of_the_teacher_wins_over_published_weights(folder: Path, tmp_path: Path) -> None:
    kd_model = tutorial(folder, tmp_path)
    with pytest.warns(UserWarning, match="and not the published ones"):
        kd_model.build_model(
            "resnet18",
            "resnet34",
            checkpoint_params={"teacher_pretrained_weights": "imagenet", "teacher_checkpoint_path": "t.pth"},
        )
    teacher = kd_model.to_recipe(TRAIN).teacher
    assert teacher is not None
    assert teacher.weights == str(Path("t.pth").resolve())
    assert not teacher.pretrained


def test_a_drifting_teacher_is_not_to_be_had() -> None:
    with pytest.warns(UserWarning, match="always in eval mode here"):
        sg.KDModel("x").build_model(
            "resnet18",
            "resnet34",
            checkpoint_params={"teacher_pretrained_weights": "imagenet"},
            run_teacher_on_eval=False,
        )


# The modules themselves


@pytest.mark.filterwarnings("ignore:train_params.mixed_precision")
def test_a_teacher_with_published_weights(folder: Path, tmp_path: Path, published: nn.Module) -> None:
    """`teacher_pretrained_weights: "imagenet"` builds the teacher with the weights of the local folder."""
    from limbeck.build import load_data, prepare

    kd_model = tutorial(folder, tmp_path, crop_size=32, resize_size=36)
    kd_model.build_model(
        "resnet18", "test_resnet", checkpoint_params={"teacher_pretrained_weights": "imagenet"}
    )
    recipe = kd_model.to_recipe({**TRAIN, "mixed_precision": True})
    assert recipe.teacher is not None
    built = prepare(recipe.teacher, load_data(recipe), where="teacher", beside=None).model.state_dict()
    assert all(torch.equal(value, built[name]) for name, value in published.state_dict().items())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_tutorials_own_networks_train(folder: Path, tmp_path: Path) -> None:
    """ResNet-50 from BEiT-base, the teacher without weights: built, one step, evaluated."""
    kd_model = sg.KDModel("own", device="cpu", ckpt_root_dir=tmp_path)
    few = tmp_path / "few"
    for part in ("train", "val"):
        for kind in ("red", "blue"):
            (few / part / kind).mkdir(parents=True)
            for file in sorted((folder / part / kind).iterdir())[: 3 if part == "train" else 1]:
                (few / part / kind / file.name).write_bytes(file.read_bytes())
    data = {**DATA, "batch_size": 4, "val_batch_size": 4}
    dataset = sg.ImageNetDatasetInterface(data_dir=few, dataset_params=data, watched=0.34)
    kd_model.connect_dataset_interface(dataset)
    kd_model.build_model(
        student_architecture="resnet50",
        teacher_architecture="beit_base_patch16_224",
        student_arch_params={"num_classes": 2},
        teacher_arch_params={"num_classes": 2, "image_size": [224, 224], "patch_size": [16, 16]},
        checkpoint_params={},
        arch_params={"teacher_input_adapter": sg.NormalizationAdapter(**NORMALISATION)},
        run_teacher_on_eval=True,
    )
    short = {"max_epochs": 1, "lr_warmup_epochs": 0, "lr_cooldown_epochs": 0, "valid_metrics_list": []}
    kd_model.train({**TRAIN, **short, "mixed_precision": True})
    assert kd_model.result is not None
    assert kd_model.result["teacher"]["frozen"] is True
    assert kd_model.result["student"]["taken"] == ["average"]
    assert kd_model.net is not None
    assert kd_model.net(torch.rand(1, 3, 224, 224)).shape == (1, 2)


def test_every_key_is_on_the_page(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from limbeck.compat.super_gradients.keys import Keys

    page = (Path(__file__).parents[2] / "docs/coming-from-supergradients.md").read_text(encoding="utf-8")
    asked: set[str] = set()
    closed = Keys.close

    def close(self: Keys) -> None:
        asked.update(self._asked)
        closed(self)

    monkeypatch.setattr(Keys, "close", close)
    tutorial(folder, tmp_path).to_recipe(TRAIN)
    assert {"max_epochs", "batch_size", "teacher_input_adapter", "load_checkpoint", "decay"} <= asked
    table = {
        word for line in page.splitlines() if line.startswith("|") for word in line.replace("`", " ").split()
    }
    named = {word.strip(",:;{}()") for word in table}
    assert sorted(asked - named) == []
