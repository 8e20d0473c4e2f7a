"""Anybody's data set, found beside the recipe."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from limbeck.data import ItemSamples, TensorSamples, TensorViews, load
from limbeck.errors import InputError

MODULE = """
import random
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset


class Pictures(Dataset):
    classes = ["red", "green", "blue"]

    def __init__(self, count, kind="pillow", labels=None, noise=False, side=8):
        self.count, self.kind, self.noise, self.side, self.read = count, kind, noise, side, 0
        self.labels = [number % 3 for number in range(count)] if labels is None else labels

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        self.read += 1
        pixels = np.random.default_rng(number).integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)
        x = {
            "pillow": lambda: Image.fromarray(pixels),
            "grey": lambda: Image.fromarray(pixels[..., 0]),
            "array": lambda: pixels,
            "bytes": lambda: torch.from_numpy(pixels).permute(2, 0, 1),
            "floats": lambda: torch.from_numpy(pixels).permute(2, 0, 1) / 255,
            "flat": lambda: torch.from_numpy(pixels)[..., 0],
            "vector": lambda: torch.zeros(7),
            "ints": lambda: torch.zeros(3, 8, 8, dtype=torch.int32),
            "text": lambda: "hello",
        }[self.kind]()
        if self.noise:
            x = x * random.random()
        return x, self.labels[number]


class Targeted(Pictures):
    def __init__(self, count, targets):
        super().__init__(count)
        self.targets = targets


def pictures(kind="pillow", count=20):
    return Pictures(count, kind)

def both():
    return Pictures(9), Pictures(6)

def three():
    return {"train": Pictures(9), "test": Pictures(6), "validation": Pictures(3)}

def noisy():
    return Pictures(9, "floats", noise=True), Pictures(3, "floats")

def unlabelled():
    labels = [0, None, 2, -1, torch.tensor(1), np.int64(2)]
    return Pictures(6, labels=labels), Pictures(3)

def targeted():
    return Targeted(30, [number % 3 for number in range(30)]), Pictures(3)

def lying():
    return Targeted(30, [0] * 30), Pictures(3)

def tensors():
    images = torch.arange(10 * 64, dtype=torch.uint8).reshape(10, 1, 8, 8)
    return TensorDataset(images, torch.arange(10) % 2), TensorDataset(images, torch.arange(10) % 2)

def out_of_range():
    return Pictures(6, labels=[0, 1, 2, 3, 0, 1]), Pictures(3)

def unseen_class():
    return TensorDataset(torch.zeros(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])), TensorDataset(
        torch.zeros(2, 1, 8, 8), torch.tensor([0, 2])
    )

def bad_label():
    return Pictures(3, labels=[0, "cat", 1]), Pictures(3)

def other_size():
    return Pictures(9), Pictures(3, side=9)

def one_item_larger():
    train = [(torch.zeros(1, 8, 8), 0), (torch.zeros(1, 9, 8), 1), (torch.zeros(1, 8, 8), 1)]
    return train * 20, train * 20

def empty():
    return Pictures(0), Pictures(3)

def not_a_pair():
    return [torch.zeros(1, 8, 8)] * 9

def not_data():
    return 5

def many():
    return Pictures(3), Pictures(3), Pictures(3)

def other_names():
    return {"train": Pictures(3), "tests": Pictures(3)}

def no_test():
    return {"train": Pictures(3)}

def failing():
    raise OSError("the disk is gone")

value = 3
"""


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "mydata.py").write_text(MODULE)
    path = list(sys.path)
    yield tmp_path
    assert sys.path == path
    sys.modules.pop("mydata", None)


@pytest.mark.parametrize("kind", ["pillow", "array", "bytes", "floats"])
def test_every_kind_of_image_gives_the_same_pixels(beside: Path, kind: str) -> None:
    data = load("py:mydata:pictures", beside=beside, options={"kind": kind})
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.classes == ("red", "green", "blue")
    assert (data.train.channels, data.train.size) == (3, (8, 8))
    first = int(data.train.numbers[0])
    expected = np.random.default_rng(first).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    batch = data.train.take(np.array([0]), 0, seed=0)
    assert np.array_equal((batch.input[0] * 255).round().byte().permute(1, 2, 0).numpy(), expected)
    assert batch.target.tolist() == [first % 3]


@pytest.mark.parametrize("kind", ["grey", "flat"])
def test_grey_images_have_one_channel(beside: Path, kind: str) -> None:
    data = load("py:mydata:pictures", beside=beside, options={"kind": kind})
    assert data.train.take(np.array([0, 1]), None, 0).input.shape == (2, 1, 8, 8)


def test_splits_come_as_a_pair_or_by_name(beside: Path) -> None:
    data = load("py:mydata:both", beside=beside)
    assert (len(data.train), len(data.test), data.validation) == (9, 6, None)
    data = load("py:mydata:three", beside=beside)
    assert (len(data.train), len(data.test), len(data.validation)) == (9, 6, 3)


def test_samples_may_lack_a_label(beside: Path) -> None:
    data = load("py:mydata:unlabelled", beside=beside)
    assert data.train.targets.tolist() == [0, -1, 2, -1, 1, 2]


def test_random_items_replay_by_pass(beside: Path) -> None:
    data = load("py:mydata:noisy", beside=beside)
    first, again, other = (data.train.take(np.arange(9), view, seed=0).input for view in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(*(data.train.take(np.arange(9), None, seed=seed).input for seed in (0, 1)))


def test_targets_save_reading_every_item_but_are_not_trusted_blindly(beside: Path) -> None:
    data = load("py:mydata:targeted", beside=beside)
    assert data.train.targets.tolist() == [number % 3 for number in range(30)]
    assert data.train.items.read == 16
    assert load("py:mydata:lying", beside=beside).train.targets.tolist() == [n % 3 for n in range(30)]


def test_tensors_are_used_as_they_are_with_the_views_asked_for(beside: Path) -> None:
    data = load("py:mydata:tensors", beside=beside, views={"crop": 2})
    assert isinstance(data.train, TensorSamples)
    assert data.train.views == TensorViews(crop=2, flip=False)
    assert data.classes == ("0", "1")
    assert load("py:mydata:tensors", beside=beside).train.views is None


def test_views_work_on_items_too(beside: Path) -> None:
    plain, moved = (load("py:mydata:both", beside=beside, views=v) for v in (None, {"crop": 2, "flip": True}))
    assert isinstance(moved.train, ItemSamples)
    index = np.arange(9)
    images = plain.train.take(index, 0, seed=0).input
    assert torch.equal(
        moved.train.take(index, 0, seed=0).input, TensorViews(crop=2)(images, index, 0, seed=0)
    )
    assert torch.equal(moved.train.take(index, None, seed=0).input, images)


def test_fingerprint_follows_content(beside: Path) -> None:
    prints = {
        load("py:mydata:pictures", beside=beside, options={"kind": kind, "count": count}).train.hash()
        for kind, count in (("bytes", 20), ("floats", 20), ("bytes", 25))
    }
    assert len(prints) == 3


def test_module_beside_the_recipe_wins_over_a_namesake(beside: Path, tmp_path: Path) -> None:
    assert len(load("py:mydata:both", beside=beside).train) == 9
    other = tmp_path / "elsewhere"
    other.mkdir()
    (other / "mydata.py").write_text(MODULE.replace("Pictures(9), Pictures(6)", "Pictures(12), Pictures(6)"))
    assert len(load("py:mydata:both", beside=other).train) == 12


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mydata", r'must be "py:package\.module:factory", got "py:mydata"'),
        ("mydata:", r'must be "py:package\.module:factory"'),
        ("mydatas:both", r'no module "mydatas".*Did you mean "mydata"\?'),
        ("mydata.sub:both", r'no module "mydata\.sub"'),
        ("mydata:bothe", r'mydata\.py: unknown factory "bothe"\. Did you mean "both"\?'),
        ("mydata:value", r"py:mydata:value is int, not a function or a class"),
        ("mydata:failing", r"py:mydata:failing failed: OSError: the disk is gone"),
        ("mydata:out_of_range", r"sample 3 has the label 3; labels must be from 0 to 2"),
        ("mydata:unseen_class", r"sample 1 has the label 2; labels must be from 0 to 1"),
        ("mydata:bad_label", r"train: the label of sample 1 must be a class index or None, got 'cat'"),
        ("mydata:other_size", r"images of the split test are \[3, 9, 9\], those of train \[3, 8, 8\]"),
        ("mydata:empty", r"the split train is empty"),
        ("mydata:not_a_pair", r"sample 0 must be a pair \(x, y\), got Tensor"),
        ("mydata:not_data", r"the split train must be a data set .*, got int"),
        ("mydata:many", r"must be \(train, test\), got 3 items"),
        ("mydata:other_names", r'unknown split "tests"\. Did you mean "test"\?'),
        ("mydata:no_test", r"needs train and test, got train"),
    ],
)
def test_bad_sources_are_named(beside: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load(f"py:{name}", beside=beside)
    assert str(caught.value).startswith("data")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("vector", r"must be a tensor \[C, H, W\] .*got \[7\]"),
        ("ints", r"must be bytes or floats, got torch\.int32"),
        ("text", r"must be a tensor, a NumPy array or a Pillow image, got str"),
        ("nosuch", r"reading sample 0 failed: KeyError: 'nosuch'"),
    ],
)
def test_images_that_cannot_be_used_are_named(beside: Path, kind: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load("py:mydata:pictures", beside=beside, options={"kind": kind})


def test_an_item_of_another_size_is_named_when_it_is_read(beside: Path) -> None:
    data = load("py:mydata:one_item_larger", beside=beside)
    with pytest.raises(InputError, match=r"sample 1 has the shape \[1, 9, 8\], others have \[1, 8, 8\]"):
        data.train.take(np.array([0, 1]), 0, seed=0)


def test_bad_options_are_named(beside: Path) -> None:
    with pytest.raises(InputError, match=r'data\.options: unknown option "kinds"\. Did you mean "kind"\?'):
        load("py:mydata:pictures", beside=beside, options={"kinds": "grey"})
    with pytest.raises(InputError, match=r"data\.size: py: sources give images of their own size"):
        load("py:mydata:both", beside=beside, size=8)


def test_module_that_fails_to_import_is_named(tmp_path: Path) -> None:
    for text, said in (
        ("import nosuchthing", "No module named 'nosuchthing'"),
        ("1 / 0", "ZeroDivisionError"),
    ):
        (tmp_path / "failing_data.py").write_text(text)
        with pytest.raises(InputError, match=f'importing "failing_data" failed: .*{said}'):
            load("py:failing_data:make", beside=tmp_path)
