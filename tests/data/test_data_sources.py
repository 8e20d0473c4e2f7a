"""Sources: the splits are right, fair and reproducible, and bad data end in one clear message."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_data import write_cifar, write_idx

from limbeck.data import Data, TensorSamples, TensorViews, cifar, fashion_mnist, load
from limbeck.data.cifar import Cifar
from limbeck.errors import InputError


@pytest.fixture
def no_local_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """LIMBECK_DATA and the cache point into an empty folder; returns it."""
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path / "local"))
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, Cifar]:
    """The two data sets with few records in each file."""
    small = {
        name: replace(spec, records={file: 20 + 10 * number for number, file in enumerate(spec.records)})
        for name, spec in cifar._SETS.items()
    }
    monkeypatch.setattr(cifar, "_SETS", small)
    return small


def write(spec: Cifar, folder: Path, classes: int = 10) -> Path:
    write_cifar(folder, spec.records, labels=spec.labels, classes=classes, names=spec.names)
    return folder


def counts(samples: object) -> list[int]:
    return torch.bincount(samples.targets + 1).tolist()  # the first is the unlabelled ones


# --- digits, and what every source shares


def test_digits_are_split_the_same_way_each_time_and_fairly() -> None:
    data = load("digits")
    assert (len(data.train), len(data.test), data.validation) == (1437, 360, None)
    assert (data.train.channels, data.train.size) == (1, (8, 8))
    assert data.classes == data.identifiers == tuple("0123456789")
    assert max(counts(data.test)[1:]) - min(counts(data.test)[1:]) <= 3
    assert load("digits", seed=9).test.hash() == data.test.hash()
    both = torch.cat([data.train.images, data.test.images]).flatten(1)
    assert len(both) == 1797
    assert both.max() == 255
    assert data.train.views == TensorViews(crop=1, flip=False)
    assert data.test.views is None


def test_views_given_come_over_the_usual_ones() -> None:
    assert load("digits", views={"crop": 0}).train.views == TensorViews(crop=0, flip=False)


def test_validation_is_split_off_training_by_seed_in_equal_shares() -> None:
    whole, data = load("digits"), load("digits", validation=0.1, seed=1)
    assert (len(data.train), len(data.validation), len(data.test)) == (1293, 144, 360)
    assert max(counts(data.validation)[1:]) - min(counts(data.validation)[1:]) <= 2
    together = torch.cat([data.train.images, data.validation.images]).flatten(1).tolist()
    assert sorted(together) == sorted(whole.train.images.flatten(1).tolist())
    assert data.test.hash() == whole.test.hash()
    assert load("digits", validation=0.1, seed=1).validation.hash() == data.validation.hash()
    assert load("digits", validation=0.1, seed=2).validation.hash() != data.validation.hash()


def test_labels_keeps_so_many_in_equal_numbers_and_forgets_the_rest() -> None:
    whole, data = load("digits"), load("digits", labels=105)
    assert len(data.train) == len(whole.train)
    assert counts(data.train)[0] == len(whole.train) - 105
    assert set(counts(data.train)[1:]) == {10, 11}
    kept = data.train.targets >= 0
    assert torch.equal(data.train.targets[kept], whole.train.targets[kept])
    assert load("digits", labels=105, seed=1).train.hash() != data.train.hash()
    assert counts(data.test) == counts(whole.test)


def test_samples_keeps_so_many_in_equal_numbers() -> None:
    data = load("digits", samples=300, labels=20)
    assert len(data.train) == 300
    assert counts(data.train) == [280, *[2] * 10]
    assert set(counts(load("digits", samples=300).train)[1:]) == {30}
    assert len(data.test) == 360


def test_size_resizes_images_in_memory() -> None:
    data = load("digits", size=12)
    assert data.train.size == data.test.size == (12, 12)
    assert abs(float(data.test.images.float().mean()) - float(load("digits").test.images.float().mean())) < 3


@pytest.mark.parametrize(
    ("source", "keywords", "said"),
    [
        ("cifer10", {}, r'data\.source: unknown source "cifer10"\. Did you mean "cifar10"\?'),
        ("hf:beans", {}, r"hf: sources are not yet supported"),
        ("folder:" + "x" * 5000, {}, r"folder:x{193} cannot be read: File name too long"),
        ("digits", {"validation": 1.0}, r"data\.validation: must be a share from 0 to below 1, got 1\.0"),
        ("digits", {"validation": float("nan")}, r"data\.validation"),
        ("digits", {"validation": 0.0001}, r"data\.validation: 0\.0001 of 1437 .* is 0"),
        ("digits", {"labels": 1438}, r"data\.labels: must be from 0 to 1437.*got 1438"),
        ("digits", {"samples": 0}, r"data\.samples: must be from 1 to 1437.*got 0"),
        ("digits", {"size": 0}, r"data\.size: must be at least 1"),
        ("digits", {"views": {"crops": 2}}, r'data\.views: unknown key "crops"'),
        ("digits", {"options": {"a": 1}}, r"data\.options: only py: sources take options"),
        ("cifar10", {"root": Path("/nowhere")}, r"data\.root: there is no folder /nowhere"),
    ],
)
def test_bad_requests_are_named(source: str, keywords: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(source, **keywords)


# --- CIFAR


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_reads_the_official_layout(name: str, small_cifar: dict[str, Cifar], tmp_path: Path) -> None:
    spec = small_cifar[name]
    folder = write(spec, tmp_path / spec.folder)
    data = load(name, root=tmp_path)
    assert data.classes == tuple(f"class{number}" for number in range(10))
    # An independent reading of the last record of the last training file.
    raw = (folder / spec.train[-1]).read_bytes()[-3072:]
    last = torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(3, 32, 32)
    assert torch.equal(data.train.images[-1], last)
    assert len(data.train) == sum(spec.records[file] for file in spec.train)
    assert int(data.train.targets[-1]) == (spec.records[spec.train[-1]] - 1) % 10
    assert data.train.views == TensorViews(crop=4, flip=True)
    assert load(name, root=folder).train.hash() == data.train.hash()


def test_cifar_is_found_under_limbeck_data_then_in_the_cache(
    small_cifar: dict[str, Cifar], no_local_data: Path
) -> None:
    spec = small_cifar["cifar100"]
    write(spec, no_local_data / "cache" / spec.folder, classes=5)
    assert len(load("cifar100").classes) == 5
    write(spec, no_local_data / "local" / spec.folder, classes=7)
    assert len(load("cifar100").classes) == 7


def test_relative_root_is_looked_for_beside_the_recipe(small_cifar: dict[str, Cifar], tmp_path: Path) -> None:
    write(small_cifar["cifar10"], tmp_path / "mine")
    assert len(load("cifar10", root=Path("mine"), beside=tmp_path).test) == 70


def test_missing_cifar_says_what_was_looked_for_where(no_local_data: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("cifar10", root=no_local_data)
    for word in ("data_batch_3.bin", "test_batch.bin", str(no_local_data / "cifar-10-batches-bin")):
        assert word in str(caught.value)


def test_truncated_cifar_file_is_named(small_cifar: dict[str, Cifar], tmp_path: Path) -> None:
    spec = small_cifar["cifar10"]
    file = write(spec, tmp_path) / "data_batch_2.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(
        InputError, match=r"data_batch_2\.bin has 92189 bytes; 30 records .* make 92190.*truncated"
    ):
        load("cifar10", root=tmp_path)


def test_cifar_label_out_of_range_is_named(small_cifar: dict[str, Cifar], tmp_path: Path) -> None:
    spec = small_cifar["cifar10"]
    file = write(spec, tmp_path) / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[5 * 3073] = 10
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"test_batch\.bin, record 5 has the label 10; .* from 0 to 9"):
        load("cifar10", root=tmp_path)


@pytest.mark.data
def test_real_cifar10(data_root: Path) -> None:
    data = load("cifar10", root=data_root)
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert counts(data.train) == [0, *[5000] * 10]
    assert counts(data.test) == [0, *[1000] * 10]
    assert_published_mean(data, (0.4914, 0.4822, 0.4465))


@pytest.mark.data
def test_real_cifar100(data_root: Path) -> None:
    data = load("cifar100", root=data_root)
    assert (len(data.classes), data.classes[0], data.classes[-1]) == (100, "apple", "worm")
    assert counts(data.train) == [0, *[500] * 100]
    assert counts(data.test) == [0, *[100] * 100]
    assert_published_mean(data, (0.5071, 0.4865, 0.4409))


def assert_published_mean(data: Data, mean: tuple[float, ...]) -> None:
    assert isinstance(data.train, TensorSamples)
    found = [float(channel.double().mean() / 255) for channel in data.train.images.unbind(1)]
    assert np.abs(np.array(found) - mean).max() < 1e-3


# --- Fashion-MNIST


def write_fashion(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for name, count in (("train", 30), ("t10k", 12)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", generator.integers(0, 256, (count, 28, 28)))
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(count) % 10)


def test_fashion_mnist_reads_idx_files(tmp_path: Path) -> None:
    write_fashion(tmp_path / "fashion-mnist")
    data = load("fashion_mnist", root=tmp_path)
    assert (len(data.train), len(data.test), data.classes[1]) == (30, 12, "Trouser")
    expected = np.random.default_rng(0).integers(0, 256, (30, 28, 28))
    assert np.array_equal(data.train.images[:, 0].numpy(), expected)
    assert data.test.targets.tolist() == [*range(10), 0, 1]


def test_fashion_mnist_is_found_where_debian_puts_it(
    no_local_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion(no_local_data / "debian")
    monkeypatch.setattr(fashion_mnist, "_DEBIAN", no_local_data / "debian")
    assert len(load("fashion_mnist").train) == 30
    with pytest.raises(InputError, match=r"t10k-labels-idx1-ubyte\.gz in"):
        load("fashion_mnist", root=no_local_data)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:-200], "cannot be read"),
        (lambda content: b"not gzip", "cannot be read"),
        (lambda content: np.array(0), "not an idx file of bytes with 3 dimensions"),
        (None, r"holds 700 values, its header says 30 x 28 x 28"),
    ],
)
def test_damaged_idx_file_is_named(tmp_path: Path, damage: object, said: str) -> None:
    import gzip

    write_fashion(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    if damage is None:
        file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:716]))
    else:
        damaged = damage(file.read_bytes())
        file.write_bytes(damaged if isinstance(damaged, bytes) else gzip.compress(damaged.tobytes()))
    with pytest.raises(InputError, match=rf"train-images-idx3-ubyte\.gz .*{said}"):
        load("fashion_mnist", root=tmp_path)


def test_fashion_mnist_labels_must_fit(tmp_path: Path) -> None:
    write_fashion(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.full(12, 10))
    with pytest.raises(InputError, match="label 10; labels must be from 0 to 9"):
        load("fashion_mnist", root=tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.zeros(11))
    with pytest.raises(InputError, match="12 images and 11 labels"):
        load("fashion_mnist", root=tmp_path)


@pytest.mark.data
def test_real_fashion_mnist(data_root: Path) -> None:
    data = load("fashion_mnist", root=data_root)
    assert counts(data.train) == [0, *[6000] * 10]
    assert counts(data.test) == [0, *[1000] * 10]
    assert abs(float(data.train.images.double().mean() / 255) - 0.2860) < 1e-3
