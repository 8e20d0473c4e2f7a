"""CIFAR-100 by the field's protocol on a GPU: time to train beside accuracy, against a plain eager loop.

    python benchmarks/gpu_cifar100.py [--teacher FILE] [--epochs 240] [--plain-epochs 3] [--compile true]

ResNet-56 teaches ResNet-20, batch 64, SGD .05, milestones 150, 180 and 210 (recipes/cifar100-protocol.yaml).
Without `--teacher` the teacher is trained first, by the same recipe; its time is told apart. Ours is a run
with all that is on by default: views on the device, a teacher that looks ahead, its fastest backend, and
compiling as asked. The plain loop is a tutorial's: torchvision's transforms in a DataLoader with workers,
both networks eager; some of its epochs are timed and reckoned to the whole. Evaluation after each epoch
counts in ours and not in the plain loop's. `--device cpu --samples 640 --epochs 1` tries the script itself.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from limbeck import weights
from limbeck.build import load_data
from limbeck.data.samples import TensorSamples
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD
from limbeck.progress import Plain
from limbeck.recipe import Recipe
from limbeck.running import run
from limbeck.students.cifar import resnet20, resnet56

RECIPE = Path(__file__).parents[1] / "recipes/cifar100-protocol.yaml"
GOAL = 60.0


class Pictures(Dataset[Any]):
    """The samples as the field's scripts read them: Pillow images through torchvision's transforms."""

    def __init__(self, samples: TensorSamples) -> None:
        from torchvision import transforms

        self.pixels = samples.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.targets = samples.targets.tolist()
        self.change = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, number: int) -> Any:
        from PIL import Image

        return self.change(Image.fromarray(self.pixels[number])), self.targets[number]


def recipe(asked: argparse.Namespace) -> Recipe:
    """The protocol, as it is asked for."""
    changed = [
        f"train.epochs={asked.epochs}",
        f"train.device={asked.device}",
        f"train.compile={asked.compile}",
        "control=false",
        "export={formats: []}",
    ]
    if asked.teacher:
        changed.append(f'teacher={{model: "cifar:resnet56", shortcut: conv, weights: "{asked.teacher}"}}')
    if asked.samples:
        changed.append(f"data.samples={asked.samples}")
    return Recipe.load(RECIPE, changed)


def plain(samples: TensorSamples, teacher: nn.Module, asked: argparse.Namespace, batch: int) -> float:
    """Seconds of one epoch of the plain loop, the first left out."""
    device = torch.device(asked.device)
    workers = min(8, os.cpu_count() or 1)
    loader = DataLoader(Pictures(samples), batch, shuffle=True, drop_last=True, num_workers=workers)
    teacher = teacher.to(device).eval().requires_grad_(False)
    student = resnet20(100, shortcut="conv").to(device).train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    times = []
    for _ in range(asked.plain_epochs + 1):
        begin = time.perf_counter()
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            with torch.no_grad():
                taught = teacher(x)
            said = student(x)
            kd = F.kl_div(F.log_softmax(said / 4, 1), F.softmax(taught / 4, 1), reduction="batchmean")
            loss = 0.1 * F.cross_entropy(said, y) + 0.9 * 16 * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # waits for the device
        times.append(time.perf_counter() - begin)
    return sorted(times[1:])[len(times[1:]) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=lambda text: str(Path(text).absolute()))
    parser.add_argument("--epochs", type=int, default=240)
    parser.add_argument("--plain-epochs", type=int, default=3)
    parser.add_argument("--compile", default="true", help="as train.compile")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=0, help="so many training samples; 0: all")
    parser.add_argument("--out", type=Path, default=None)
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("gpu_cifar100: there is no GPU here; --device cpu --samples 640 tries the script.")
    wanted = recipe(asked)
    with tempfile.TemporaryDirectory() as folder:
        out = asked.out or Path(folder) / "run"
        found = run(wanted, out, display=Plain())
        teacher = resnet56(100, shortcut="conv")
        file = Path(asked.teacher) if asked.teacher else out / "state/teacher/teacher.safetensors"
        weights.load(teacher, file, where="teacher")
    samples = load_data(wanted).train
    assert isinstance(samples, TensorSamples)
    epoch = plain(samples, teacher, asked, wanted.data.batch_size)
    ours, theirs = found["seconds"]["student"], epoch * asked.epochs
    report = {
        "device": torch.cuda.get_device_name() if asked.device.startswith("cuda") else "cpu",
        "torch": torch.__version__,
        "epochs": asked.epochs,
        "compile": found["environment"]["compile"],
        "teacher_accuracy": found["teacher"]["accuracy"],
        "student_accuracy": found["student"]["accuracy"][0],
        "teacher_seconds": found["seconds"]["teacher"],
        "student_seconds": round(ours, 1),
        "plain_seconds": round(theirs, 1),
        "ratio": round(ours / theirs, 4),
        "goal": f"at most {GOAL:.0f} s for 240 epochs",
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
