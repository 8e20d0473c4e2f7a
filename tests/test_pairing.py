"""`layers: auto` finds the layers that belong together, or says what is missing."""

import pytest
import torch
from torch import nn

import limbeck
from limbeck import models
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.pairing import pair
from limbeck.students.small import convnet
from limbeck.taps import Tapped

IMAGES = Batch(torch.rand(2, 3, 32, 32))


def network(name: str, who: str = "student") -> Tapped:
    built = models.build(
        name, classes=10, channels=3, size=(32, 32), options={}, where=who, beside=None, pretrained=False
    )
    return Tapped(built.model, (), who=who)


def test_the_embedding_is_what_enters_the_classifier() -> None:
    found = pair(network("cifar:resnet20"), network("torchvision:resnet18", "teacher"), IMAGES, "embedding")
    assert found == {"linear:in": "fc:in"}


def test_the_last_maps_belong_together_whatever_their_sizes() -> None:
    found = pair(network("cifar:resnet20"), network("torchvision:resnet18", "teacher"), IMAGES, "map")
    assert found == {"layer3": "layer3"}  # of 32 pixels, nothing is left in the deeper network's layer4


def test_stages_are_paired_by_resolution() -> None:
    found = pair(network("cifar:resnet20"), network("cifar:resnet56", "teacher"), IMAGES, "stages")
    assert found == {f"layer{i}": f"layer{i}" for i in (1, 2, 3)}


def test_a_pair_can_be_tapped_and_has_the_shapes_that_were_meant() -> None:
    student, teacher = network("cifar:resnet20"), network("torchvision:resnet18", "teacher")
    for prefers, dims in (("embedding", 2), ("map", 4)):
        for ours, theirs in pair(student, teacher, IMAGES, prefers).items():
            for whole, tap in ((student, ours), (teacher, theirs)):
                tapped = Tapped(whole.model, [tap]).eval()
                assert tapped(IMAGES.input).features[0].ndim == dims
                tapped.close()


def test_asking_leaves_no_trace() -> None:
    student = network("cifar:resnet20").train()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    pair(student, student, IMAGES, "stages")
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not any(module._forward_hooks for module in student.model.modules())


def test_a_network_without_maps_or_classifier_is_told() -> None:
    flat = Tapped(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), (), who="teacher")
    convolutions = Tapped(nn.Sequential(nn.Conv2d(3, 10, 32), nn.Flatten()), (), who="student")
    with pytest.raises(InputError, match="the teacher has none"):
        pair(network("cifar:resnet20"), flat, IMAGES, "map")
    with pytest.raises(InputError, match="student's last linear layer, and it has none"):
        pair(convolutions, flat, IMAGES, "embedding")


def test_it_works_from_python() -> None:
    torch.manual_seed(0)
    loader = [(torch.rand(8, 1, 8, 8), torch.arange(8) % 10)] * 2
    teacher, student = convnet(width=8), convnet(width=4)
    term = limbeck.Term(weight=1.0, layers="auto")
    found = limbeck.distill(
        teacher, student, loader, objective={"cross_entropy": 1.0, "hint": term}, epochs=1, progress=False
    )
    assert found.student is student
    with pytest.raises(InputError, match="there is none"):
        limbeck.distill(None, student, loader, objective={"hint": term}, epochs=1, progress=False)
