"""Image folders in all their shapes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_data import write_classes, write_image
from PIL import Image

from limbeck.data import Data, Loader, Plan, evaluation_batches, load
from limbeck.errors import InputError


def folder(path: Path, **keywords: object) -> Data:
    return load(f"folder:{path}", size=16, **keywords)


def test_train_and_val(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"dog": 3, "cat": 4})
    write_classes(tmp_path / "val", {"dog": 2})
    data = folder(tmp_path)
    assert data.classes == data.identifiers == ("cat", "dog")
    assert data.train.targets.tolist() == [0, 0, 0, 0, 1, 1, 1]
    # A class may be missing from the test images; indices stay those of training.
    assert data.test.targets.tolist() == [1, 1]
    assert data.validation is None
    batch = data.train.take(np.array([0, 6]), 0, seed=0)
    assert batch.input.shape == (2, 3, 16, 16)
    assert batch.input.dtype == torch.float32
    assert 0 <= float(batch.input.min()) < float(batch.input.max()) <= 1


def test_val_is_for_choosing_where_test_stands_beside_it(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 3), ("test", 2)):
        write_classes(tmp_path / part, {"a": count, "b": count})
    data = folder(tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [8, 6, 4]
    with pytest.raises(
        InputError, match=r"data\.validation: these data have a validation split of their own"
    ):
        folder(tmp_path, validation=0.5)


def test_without_parts_the_same_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 10, "b": 20, ".hidden": 1})
    data = folder(tmp_path)
    assert (len(data.train), torch.bincount(data.test.targets).tolist()) == (24, [2, 4])
    assert not set(data.train.numbers) & set(data.test.numbers)
    assert folder(tmp_path, seed=5).test.hash() == data.test.hash()


def test_unlabelled_images_join_the_training_samples(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 5, "b": 5, "unlabelled/deep": 3})
    data = folder(tmp_path)
    assert data.classes == ("a", "b")
    assert data.train.targets.tolist() == [*[0] * 4, *[1] * 4, -1, -1, -1]
    assert set(data.test.targets.tolist()) == {0, 1}
    assert data.train.take(np.array([10]), None, 0).input.shape == (1, 3, 16, 16)
    # What is split off for choosing carries labels.
    split = folder(tmp_path, validation=0.25)
    assert sorted(split.validation.targets.tolist()) == [0, 1]
    assert (split.train.targets == -1).sum() == 3


def test_training_views_replay_whatever_the_workers(tmp_path: Path) -> None:
    data = folder(write_classes(tmp_path, {"a": 6, "b": 6}))
    plan = Plan(0, len(data.train), 4)
    alone = [step[0] for step in Loader(data.train, plan).steps(0)]
    for one, (other,) in zip(alone, Loader(data.train, plan, workers=2).steps(0), strict=True):
        assert torch.equal(one.input, other.input)
    later = [step[0].input for step in Loader(data.train, Plan(0, len(data.train), 4)).steps(1)]
    assert not torch.equal(alone[0].input, later[0])


def test_evaluation_takes_the_centre(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 5, "b": 5})
    data = load(f"folder:{tmp_path}", size=20, views={"resize": 20})
    images = torch.cat([batch.input for batch in evaluation_batches(data.test, 8)])
    paths = [data.test.items.paths[number] for number in data.test.numbers]
    for image, path in zip(images, paths, strict=True):
        with Image.open(path) as opened:
            pixels = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
        assert torch.equal((image * 255).round().to(torch.uint8), pixels)


def test_other_kinds_of_images_are_read_as_rgb(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 3, "b": 3})
    write_image(tmp_path / "a" / "grey.PNG", mode="L")
    write_image(tmp_path / "a" / "photo.JPEG")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    data = folder(tmp_path)
    assert len(data.train) + len(data.test) == 8
    every = [
        data.train.take(np.arange(len(data.train)), None, 0),
        data.test.take(np.arange(len(data.test)), None, 0),
    ]
    assert all(batch.input.shape[1:] == (3, 16, 16) for batch in every)


def test_relative_path_is_looked_for_beside_the_recipe_and_under_root(tmp_path: Path) -> None:
    write_classes(tmp_path / "mine", {"a": 5})
    assert len(load("folder:mine", beside=tmp_path).train) == 4
    assert len(load("folder:mine", root=tmp_path).train) == 4


def test_broken_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 2})
    write_classes(tmp_path / "val", {"a": 1})
    broken = tmp_path / "train" / "a" / "00.png"
    for content in (b"", b"no image", broken.read_bytes()[:300]):
        broken.write_bytes(content)
        data = folder(tmp_path)
        for workers in (0, 1):
            with pytest.raises(InputError) as caught:
                list(Loader(data.train, Plan(0, 2, 2), workers=workers).steps(0))
            assert str(caught.value).startswith(f"data: the image {broken} cannot be read: ")
            assert "\n" not in str(caught.value)


def test_train_without_val_or_test_holds_a_fifth_out(tmp_path: Path) -> None:
    write_classes(tmp_path / "inner" / "train", {"a": 10, "b": 5})
    write_classes(tmp_path / "bare", {"a": 10, "b": 5})
    inner, bare = folder(tmp_path / "inner"), folder(tmp_path / "bare")
    assert (len(inner.train), len(inner.test), inner.classes) == (12, 3, ("a", "b"))
    assert inner.test.targets.tolist() == bare.test.targets.tolist()
    assert torch.equal(
        inner.test.take(np.arange(3), None, 0).input, bare.test.take(np.arange(3), None, 0).input
    )


def test_bad_folders_are_named(tmp_path: Path) -> None:
    def said(pattern: str, path: Path) -> None:
        with pytest.raises(InputError, match=pattern):
            folder(path)

    write_classes(tmp_path / "flowers" / "train", {"a": 2})
    said(r'there is no folder .*flower\b.*Did you mean "flowers"\?', tmp_path / "flower")
    write_classes(tmp_path / "single" / "train", {"a": 1})
    said(r"single/train has too few images \(1\)", tmp_path / "single")
    write_classes(tmp_path / "flowers" / "val", {"A": 1})
    said(r'unknown class folder "A"\. .*Allowed: a', tmp_path / "flowers")
    (tmp_path / "empty").mkdir()
    said(r"empty has no class folders; images belong in .*empty/<class>/", tmp_path / "empty")
    (tmp_path / "empty" / "a").mkdir()
    said(r"the class folder .*empty/a has no images \(\.bmp", tmp_path / "empty")
    write_classes(tmp_path / "valonly", {"val/a": 2})
    said(r"has val, but no folder train", tmp_path / "valonly")
    write_classes(tmp_path / "one", {"a": 1})
    said(r"has too few images \(1\)", tmp_path / "one")
    write_classes(tmp_path / "ok", {"a": 5})
    (tmp_path / "ok" / "unlabelled").mkdir()
    said(r"unlabelled has no images", tmp_path / "ok")
    with pytest.raises(InputError, match="folder: needs a path"):
        load("folder:")
    with pytest.raises(InputError, match=r'data\.views: unknown key "crop"'):
        load(f"folder:{tmp_path / 'ok'}", views={"crop": 2})


@pytest.mark.data
def test_real_photographs_get_names_for_people(data_root: Path) -> None:
    data = load("folder:imagenette_mini", root=data_root, size=64)
    assert data.identifiers[0] == "n01440764"
    assert data.classes[:2] == ("tench", "English springer")
    batch = data.train.take(np.arange(0, len(data.train), 60), 0, seed=0)
    assert batch.input.shape == (10, 3, 64, 64)
    assert sorted(batch.target.tolist()) == list(range(10))
