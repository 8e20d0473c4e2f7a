"""A picture of a few samples with what teacher and student say of them."""

import io
from collections.abc import Sequence

import numpy as np
from torch import Tensor

__all__ = ["SHOWN", "samples"]

SHOWN = 8
"""How many samples a picture shows."""


def samples(
    images: Tensor, targets: Tensor, student: Tensor, teacher: Tensor | None, classes: Sequence[str]
) -> np.ndarray:
    """Draw samples with the predictions.

    Args:
        images: [N, C, H, W], in [0, 1], of 1 or 3 channels.
        targets: class indices [N], -1 where not known.
        student: logits [N, K].
        teacher: logits [N, K]; None without a teacher.
        classes: names of the K classes.

    Returns:
        The picture, bytes [H, W, 3].
    """
    from matplotlib.figure import Figure
    from PIL import Image

    count = len(images)
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(2.3 * columns, 2.9 * rows), dpi=110, layout="constrained")
    for at in range(count):
        axes = figure.add_subplot(rows, columns, at + 1)
        shown = images[at].permute(1, 2, 0).clamp(0, 1).numpy()
        axes.imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
        axes.set_xticks([])
        axes.set_yticks([])
        label = int(targets[at])
        axes.set_title("no label" if label < 0 else _short(classes[label]), fontsize=9)
        said = [("student", student[at])] + ([] if teacher is None else [("teacher", teacher[at])])
        for line, (who, logits) in enumerate(said):
            shares = logits.float().softmax(0)
            named = int(shares.argmax())
            right = label < 0 or named == label
            text = f"{who}: {_short(classes[named])} {100 * float(shares[named]):.0f} %"
            axes.annotate(
                text, (0, 0), xytext=(0, -5 - 11 * line),
                xycoords="axes fraction", textcoords="offset points", va="top", fontsize=8,
                color="#1d1f24" if right else "#b3261e",
            )  # fmt: skip
        # The layout makes room for an axis' own label, and not for what hangs below it.
        axes.set_xlabel("\n".join(" " for _ in said), fontsize=9, labelpad=5)
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return np.asarray(Image.open(written).convert("RGB")).copy()


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
