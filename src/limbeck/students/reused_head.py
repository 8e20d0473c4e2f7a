"""A student that ends in its teacher's classifier: what SimKD trains and ships.

D. Chen, J.-P. Mei, H. Zhang, C. Wang, Y. Feng, C. Chen, Knowledge Distillation with the Reused Teacher
Classifier, CVPR 2022, https://arxiv.org/abs/2203.14001.

The student's own classifier is left out. A projector brings its last feature to the teacher's width; the mean
over places goes to a copy of the teacher's classifier, which stays as it is.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck.methods._layers import conv, linear
from limbeck.students._notes import Notes
from limbeck.taps import Tapped

__all__ = ["HeadNotes", "ReusedHead"]


@dataclass(frozen=True, slots=True)
class HeadNotes(Notes):
    """All that is needed to build the composite around a student again.

    Attributes:
        tap: the student's feature that is projected.
        replaced: the student's own classifier, a linear layer that is taken out.
        inputs: its width.
        width: the width of the teacher's feature.
        classes: logits of the teacher's classifier.
        maps: whether the features are maps [B, C, H, W], and not vectors [B, C].
        bias: whether the teacher's classifier has one.
        factor: by how much the projector is narrower inside than the teacher's feature.
    """

    kind: ClassVar[str] = "reused_head"
    told: ClassVar[str] = "ends in its teacher's classifier"

    tap: str
    replaced: str
    inputs: int
    width: int
    classes: int
    maps: bool
    bias: bool
    factor: int


class ReusedHead(nn.Module):
    """A student, a projector, and the teacher's classifier.

    Args:
        student: the plain network; its classifier is taken out of it.
        notes: what stands where.
        generator: for the projector's initial values.

    Raises:
        ValueError: the student has no such classifier to take out, or no such layer to project.
    """

    def __init__(self, student: nn.Module, notes: HeadNotes, generator: torch.Generator) -> None:
        super().__init__()
        self.notes = notes
        named = dict(student.named_modules(remove_duplicate=False))
        classifier = named.get(notes.replaced)
        if not notes.replaced or not isinstance(classifier, nn.Linear):
            raise ValueError(f'it has no linear layer "{notes.replaced}".')
        for name in [name for name, module in named.items() if module is classifier]:
            owner, _, last = name.rpartition(".")
            setattr(student.get_submodule(owner), last, nn.Identity())
        self.trunk = Tapped(student, (notes.tap,), who="student")
        self.projector = _projector(notes, generator)
        head = nn.Linear(notes.width, notes.classes, bias=notes.bias, device="meta")
        self.head = head.to_empty(device=generator.device).requires_grad_(False)

    def reuse(self, head: nn.Linear) -> None:
        """Take the teacher's classifier over."""
        self.head.load_state_dict(head.state_dict())

    def forward(self, input: Tensor) -> Tensor:
        """Logits [B, classes]."""
        feature: Tensor = self.projector(self.trunk(input).features[0])
        logits: Tensor = self.head(feature.mean((2, 3)) if self.notes.maps else feature)
        return logits


def _projector(notes: HeadNotes, generator: torch.Generator) -> nn.Sequential:
    """Three layers with BatchNorm and ReLU, narrower inside; 1×1, 3×3 and 1×1 convolutions for maps."""
    inside = max(1, notes.width // notes.factor)
    layers: list[nn.Module] = []
    sizes = [(notes.inputs, inside, 1), (inside, inside, 3), (inside, notes.width, 1)]
    for inputs, outputs, size in sizes:
        if notes.maps:
            layers += [conv(inputs, outputs, size, generator), nn.BatchNorm2d(outputs), nn.ReLU()]
        else:
            layers += [linear(inputs, outputs, generator), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
