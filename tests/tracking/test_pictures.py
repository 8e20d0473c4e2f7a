"""What stands below a sample can be read."""

import numpy as np
import pytest
import torch

from limbeck.tracking.pictures import samples


def bands(picture: np.ndarray) -> int:
    """How many stripes of ink there are from top to bottom, with white between them."""
    ink = (picture.min(axis=(1, 2)) < 128).astype(int)
    return int((np.diff(np.concatenate([[0], ink])) == 1).sum())


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 1), (8, 2)])
def test_no_line_runs_into_another_or_out_of_the_picture(count: int, rows: int) -> None:
    images = torch.zeros(count, 1, 8, 8)
    logits = torch.eye(10)[:count] * 5
    names = tuple("gypsy quail"[: 5 + n % 6] for n in range(10))
    for teacher, lines in ((logits, 2), (None, 1)):
        drawn = samples(images, torch.zeros(count), logits, teacher, names)
        assert bands(drawn) == rows * (1 + 1 + lines)  # the label, the image, and what is said of it
        assert (drawn[:2] == 255).all()
        assert (drawn[-2:] == 255).all()
