"""SuperGradients' losses, adapters and networks as modules, and the later names that train them."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from words import NORMALISATION, TRAIN

from limbeck.compat import super_gradients as sg
from limbeck.errors import InputError


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


@pytest.mark.parametrize("parts", [1, 4])
def test_accumulated_batches_of_a_loader_are_one_step(parts: int) -> None:
    """As there, N batches of the loader make one step; the gradient is that of all of their samples."""
    from limbeck.students.small import convnet

    def trained(batch_size: int, accumulate: int) -> nn.Module:
        torch.manual_seed(0)
        images, labels = torch.rand(32, 1, 8, 8), torch.arange(32) % 2
        loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size)
        student, teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), convnet(num_classes=2, width=4)
        params = {"max_epochs": 2, "initial_lr": 0.1, "loss": TRAIN["loss"], "silent_mode": True}
        return (
            sg.KDTrainer("later", device="cpu")
            .train(
                student=student,
                teacher=teacher,
                train_loader=loader,
                training_params={**params, "batch_accumulate": accumulate},
            )
            .student
        )

    whole, added = trained(16, 1).state_dict(), trained(16 // parts, parts).state_dict()
    for name, value in whole.items():
        torch.testing.assert_close(added[name], value)


def test_the_later_names_take_the_tutorials_parameters() -> None:
    from limbeck.students.small import convnet

    loader = [(torch.rand(8, 1, 8, 8), torch.arange(8) % 2)]
    params = {**TRAIN, "max_epochs": 2, "lr_warmup_epochs": 0, "lr_cooldown_epochs": 0, "silent_mode": True}
    with pytest.warns(UserWarning, match="training_params") as told:
        sg.KDTrainer("later", device="cpu").train(
            student=convnet(num_classes=2, width=4),
            teacher=convnet(num_classes=2, width=4),
            train_loader=loader,
            training_params=params,
        )
    said = " ".join(str(warning.message) for warning in told)
    assert "nothing is chosen by the loader that is reported" in said
    assert "top5 is not computed here" in said


def test_a_network_by_name(tmp_path: Path) -> None:
    from limbeck import weights

    first = sg.models.get("resnet8", num_classes=7)
    assert first(torch.rand(1, 3, 32, 32)).shape == (1, 7)
    weights.save(first, tmp_path / "own.safetensors")
    again = sg.models.get("resnet8", {"num_classes": 7}, checkpoint_path=tmp_path / "own.safetensors")
    assert all(torch.equal(v, first.state_dict()[n]) for n, v in again.state_dict().items())
    with pytest.raises(InputError, match="pretrained_weights"):
        sg.models.get("resnet18", pretrained_weights="coco")


def test_published_weights_come_from_a_local_folder(published: nn.Module) -> None:
    found = sg.models.get("test_resnet", num_classes=1000, pretrained_weights="imagenet").state_dict()
    assert all(torch.equal(value, found[name]) for name, value in published.state_dict().items())
    other = sg.models.get("test_resnet", num_classes=5, pretrained_weights="imagenet").state_dict()
    same = [name for name, value in published.state_dict().items() if torch.equal(other[name], value)]
    assert "fc.weight" not in same
    assert len(same) > len(other) - 4  # all but the classifier


def test_cross_entropy_without_smoothing_takes_soft_targets() -> None:
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    shares = torch.softmax(torch.randn(3, 4, generator=torch.Generator().manual_seed(2)), 1)
    loss = sg.LabelSmoothingCrossEntropyLoss()
    torch.testing.assert_close(loss(logits, shares), F.cross_entropy(logits, shares))
