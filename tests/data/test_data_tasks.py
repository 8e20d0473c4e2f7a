"""Data are split into an old task and a new one; what makes no sense is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from limbeck.data import Data, TensorSamples
from limbeck.data.sources import load
from limbeck.data.tasks import split
from limbeck.errors import InputError
from limbeck.knowledge import UNLABELLED, places

NAMES = ("ant", "bee", "cat", "dog")


def samples(*targets: int) -> TensorSamples:
    """Each image has its own number in every pixel."""
    images = torch.arange(len(targets), dtype=torch.float32).div(100).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return TensorSamples(images=images, targets=torch.tensor(targets), classes=NAMES)


def data(**changed: Any) -> Data:
    parts = {"train": samples(0, 1, 2, 3, 3, 2, 1, 0), "test": samples(3, 2, 1, 0, 1), "validation": None}
    return Data(**{**parts, **changed}, classes=NAMES, identifiers=("n0", "n1", "n2", "n3"))


def test_only_the_new_tasks_samples_are_left_to_learn_from() -> None:
    found = split(data(validation=samples(1, 3, 0)), ["dog", 1])
    assert found.train.targets.tolist() == [0, 2, 2, 0]
    assert found.train.take(torch.arange(4).numpy(), None, 0).input[:, 0, 0, 0].tolist() == pytest.approx(
        [0.0, 0.02, 0.05, 0.07]
    )
    assert found.validation is not None
    assert found.validation.targets.tolist() == [0]
    assert found.test.targets.tolist() == [3, 2, 1, 0, 1]
    assert found.classes == found.train.classes == NAMES
    assert found.tasks is not None
    assert (found.tasks.old, found.tasks.new) == ((1, 3), (0, 2))


def test_the_old_task_is_numbered_anew_in_the_datas_order() -> None:
    before = split(data(validation=samples(1, 3, 0)), ["n3", "bee"]).taught
    assert before.classes == ("bee", "dog")
    assert before.identifiers == ("n1", "n3")
    assert before.train.targets.tolist() == [0, 1, 1, 0]
    assert before.train.classes == before.test.classes == before.classes
    assert before.test.targets.tolist() == [1, 0, 0]
    assert before.validation is not None
    assert before.validation.targets.tolist() == [0, 1]
    assert before.taught is before


def test_a_change_of_the_old_tasks_samples_is_noticed() -> None:
    one = split(data(), [0, 1]).hashes()
    other = split(data(train=samples(1, 0, 2, 3, 3, 2, 1, 0)), [0, 1]).hashes()
    assert one["training"] == other["training"]
    assert one["old task's training"] != other["old task's training"]
    assert data().hashes().keys() == {"training", "test"}


def test_places_count_among_the_chosen_and_know_no_others() -> None:
    found = places((1, 3), 4)
    assert found[torch.tensor([1, 3, 0, UNLABELLED])].tolist() == [0, 1, UNLABELLED, UNLABELLED]


def test_labels_are_forgotten_in_the_new_task_alone() -> None:
    found = load("digits", labels=20, old=["0", 1, 2, 3, 4])
    assert found.train.targets[found.train.targets != UNLABELLED].bincount().tolist() == [0] * 5 + [4] * 5
    assert int(found.train.targets[found.train.targets != UNLABELLED].min()) == 5
    assert not (found.taught.train.targets == UNLABELLED).any()
    assert len(found.train) + len(found.taught.train) == len(load("digits").train)


@pytest.mark.parametrize(
    ("old", "told"),
    [
        (["ant", "bees"], r'scheme\.old: unknown class "bees"\. Did you mean "bee"\?'),
        ([4], r"scheme\.old: index 4 is out of range; the data have 4 classes, from 0 to 3"),
        ([-1], r"scheme\.old: index -1 is out of range"),
        (["cat", 2], r'scheme\.old: the class "cat" is there twice'),
        ([], r"scheme\.old: all 4 classes are new: the teacher knows none of them"),
        ([0, 1, 2, 3], r"scheme\.old: all 4 classes are old: there is no new task to learn"),
    ],
)
def test_classes_that_make_no_two_tasks_are_refused(old: list[str | int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        split(data(), old)


def test_a_task_without_samples_is_refused() -> None:
    with pytest.raises(InputError, match="no training sample of the new task"):
        split(data(train=samples(0, 1, 1)), [0, 1])
    with pytest.raises(InputError, match="no test sample of the old task"):
        split(data(test=samples(2, 3)), [0, 1])


def test_training_samples_of_unknown_class_are_refused() -> None:
    hidden = replace(data().train, targets=torch.tensor([0, 1, 2, 3, 3, 2, UNLABELLED, UNLABELLED]))
    with pytest.raises(InputError, match="2 training samples carry no label, so nobody can tell whether"):
        split(data(train=hidden), [0, 1])
