"""The commented recipe that `limbeck init` writes."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import InputError
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe

__all__ = ["template"]

_PUBLISHED = ("timm", "torchvision")


@dataclass(frozen=True)
class _Habits:
    """What suits a source of data, as a first guess to be changed."""

    student: str
    epochs: int
    batch: int
    lr: float
    views: str


_SMALL = _Habits("cifar:resnet20", 100, 128, 0.1, "{crop: 4, flip: true}")
_HABITS = {
    "cifar10": _SMALL,
    "cifar100": _SMALL,
    "fashion_mnist": _SMALL,
    "digits": _Habits("py:limbeck.students.small:convnet", 100, 64, 0.05, "{crop: 1, flip: false}"),
}
_OTHER = _Habits("timm:mobilenetv3_small_100", 60, 64, 0.05, "null")

_TEXT = """\
# {title}
# Look at it first:  limbeck check FILE      Then run it:  limbeck distill FILE
# Any key can be set for one run:  limbeck distill FILE train.epochs=5
name: {name}
seeds: 1                      # 3 gives an interval for the gain; a list such as [0, 7] names the seeds

teacher:
  model: {teacher}
{knowledge}
student:
  model: {student}
  # Any other key is an argument of the model's constructor.

data:
  source: {source}
  root: null                  # null: where LIMBECK_DATA points, then the cache folder
  batch_size: {batch}
  validation: 0               # share of the training set to split off for choosing, such as 0.1
  views: {views}

objective:                    # the terms of the loss; `limbeck methods` lists them
  cross_entropy: {{weight: 0.1}}
  kd: {{weight: 0.9, temperature: 4}}

scheme: offline               # a fixed teacher teaches one student

train:
  epochs: {epochs:<20}# distilling wants patience: longer often helps
  optimizer: {{name: sgd, lr: {lr}, momentum: 0.9, weight_decay: 5.0e-4}}
  schedule: {{name: cosine, warmup_epochs: 0}}
  precision: fp32             # bf16 is faster where the device has it
  compile: false

control: true                 # the same student without its teacher: what the gain is measured against
export: {{formats: [onnx, int8]}}
"""

_GIVEN = """\
  weights: {weights}
  # looked for beside this file, then under LIMBECK_DATA/weights, then in the cache
"""
_TUNED = """\
  pretrained: true            # the published weights, downloaded once
  train:                      # fine-tuned to your classes first; what is not given is as in `train` below
    epochs: 10
    optimizer: {name: sgd, lr: 0.01, momentum: 0.9, weight_decay: 5.0e-4}
"""
_TRAINED = """\
  # weights: FILE             # weights of your own: then leave `train` out
  train: {}                   # trained first; what is not given is as in `train` below
"""
_AS_IS = """\
  # weights: FILE             # where the model does not bring its own
"""


def template(
    teacher: str,
    data: str,
    student: str | None = None,
    *,
    name: str | None = None,
    weights: str | None = None,
) -> str:
    """A commented recipe, ready to be changed, that `Recipe.load` accepts.

    Args:
        teacher: the teacher's model, as a recipe writes it ("timm:resnet50").
        data: the data's source, as a recipe writes it; a folder may also be given by its path alone.
        student: the student's model; None chooses a small one that suits the data.
        name: the recipe's name; None makes one from data, teacher and student.
        weights: the teacher's weights; None: published ones, where there are any, or training.

    Raises:
        InputError: a name that no recipe can hold.
    """
    source = _source(data)
    habits = _HABITS.get(source, _OTHER)
    student = habits.student if student is None else student
    words = {
        "title": _one_line(f"Distil {teacher} into {student} on {source}."),
        "name": _quoted(_name(source, teacher, student) if name is None else name),
        "teacher": _quoted(teacher),
        "knowledge": _knowledge(teacher, weights),
        "student": _quoted(student),
        "source": _quoted(source),
    }
    text = _TEXT.format(**words, **{key: getattr(habits, key) for key in ("batch", "views", "epochs", "lr")})
    Recipe.from_dict(read_yaml(text, "recipe"))
    return text


def _source(data: str) -> str:
    """The source as a recipe writes it: a path of a folder gets its prefix."""
    if not data or data in _HABITS or ":" in data:
        return data
    try:
        return f"folder:{data}" if Path(data).is_dir() else data
    except (OSError, ValueError):
        raise InputError(f"data: {json.dumps(data)} cannot be a folder's path.") from None


def _knowledge(teacher: str, weights: str | None) -> str:
    if weights is not None:
        return _GIVEN.format(weights=_quoted(weights))
    prefix = teacher.partition(":")[0]
    if prefix in _PUBLISHED:
        return _TUNED
    return _TRAINED if prefix == "cifar" else _AS_IS


def _name(*parts: str) -> str:
    """Parts such as "timm:resnet50" and "folder:/data/birds" as one name that can be a folder's."""
    last = (re.split(r"[:/\\]", part.rstrip("/\\"))[-1] for part in parts)
    words = (re.sub(r"[^A-Za-z0-9._-]+", "-", word).strip("-.")[:30] for word in last)
    return "-".join(word for word in words if word) or "distilled"


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)


def _quoted(value: str) -> str:
    """Text as YAML: plain where that is safe, else in double quotes, which JSON and YAML share."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_./-]*", value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
