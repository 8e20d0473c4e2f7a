"""`layers: auto` finds, family by family, the layers that published work compares.

The pairs are written out as the public code of the CIFAR-100 protocol (Tian et al. 2020,
https://arxiv.org/abs/1910.10699) takes its features, in the names of our networks.
"""

from collections.abc import Mapping
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from limbeck import models
from limbeck.knowledge import Batch
from limbeck.pairing import pair
from limbeck.taps import Tapped

SIDES = {"timm": 64, "torchvision": 64, "cifar": 32}
LARGER = {  # which take no other
    "timm:vit_tiny_patch16_224": 224,
    "timm:vit_small_patch32_224": 224,
    "timm:beit_base_patch16_224": 224,
    "timm:cait_xxs24_224": 224,
    "timm:efficientformer_l1": 224,
}
OPTIONS: Mapping[str, Mapping[str, object]] = {
    # As timm starts them, the last block of a stage adds nothing to what is rectified already.
    "timm:resnet18": {"zero_init_last": False},
    "timm:resnet50": {"zero_init_last": False},
    "timm:beit_base_patch16_224": {"depth": 8, "embed_dim": 48, "num_heads": 3},
    "timm:vit_small_patch32_224": {"depth": 6},
    "timm:cait_xxs24_224": {"depth": 4},
    "torchvision:vgg11": {"init_weights": False},  # sooner done
    "torchvision:vgg11_bn": {"init_weights": False},
}


@cache
def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    side = size(name)
    built = models.build(
        name, classes=10, channels=3, size=(side, side), options=OPTIONS.get(name, {}), where="student"
    )
    return built.model.eval()


def size(name: str) -> int:
    return LARGER.get(name, SIDES[name.partition(":")[0]])


def images(name: str) -> Tensor:
    return torch.randn(2, 3, size(name), size(name), generator=torch.Generator().manual_seed(1))


@cache
def found(prefers: str, student: str, teacher: str | None = None) -> dict[str, str]:
    """What is paired; both networks see images of the larger size, where one needs it."""
    teacher = student if teacher is None else teacher
    larger = max(student, teacher, key=size)
    batch = Batch(images(larger))
    return pair(
        Tapped(network(student), (), _Resized(size(student)), who="student"),
        Tapped(network(teacher), (), _Resized(size(teacher)), who="teacher"),
        batch,
        prefers,
    )


class _Resized(nn.Module):
    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x, (self.side, self.side))


def own(prefers: str, name: str) -> list[str]:
    """What is found in a network that is paired with itself."""
    pairs = found(prefers, name)
    assert list(pairs) == list(pairs.values())
    return list(pairs)


def features(name: str, taps: list[str]) -> list[Tensor]:
    tapped = Tapped(network(name), taps)
    try:
        with torch.no_grad():
            return list(tapped(images(name)).features)
    finally:
        tapped.close()


def shapes(name: str, taps: list[str]) -> list[tuple[int, ...]]:
    return [tuple(f.shape[1:]) for f in features(name, taps)]


def check_pooled(name: str) -> None:
    """The last map's average is what enters the classifier."""
    (tap,), (head,) = own("map", name), own("embedding", name)
    last, embedding = features(name, [tap, head])
    torch.testing.assert_close(last.mean((2, 3)), embedding)


def check_before_relu(name: str) -> None:
    """What is taken has negative values and is, rectified, the end of the stage."""
    ends, before = own("stages", name), own("before_relu", name)
    for end, value in zip(features(name, ends), features(name, before), strict=True):
        assert value.shape == end.shape
        assert value.min() < 0
        assert torch.equal(value.relu(), end)


RESNETS = ["resnet8", "resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet8x4"]
BLOCKS = {"resnet110": 18, "resnet32x4": 5, **{f"resnet{6 * n + 2}": n for n in range(1, 10)}, "resnet8x4": 1}


# The networks of the protocol


@pytest.mark.parametrize("short", [*RESNETS, "resnet32x4"])
def test_cifar_resnet(short: str) -> None:
    name, last = f"cifar:{short}", BLOCKS[short] - 1
    assert own("stages", name) == ["layer1", "layer2", "layer3"]
    assert own("middle", name) == ["layer2"]
    assert own("map", name) == ["layer3"]
    assert own("embedding", name) == ["linear:in"]
    assert own("before_relu", name) == [f"layer{i}.{last}.relu:in" for i in (1, 2, 3)]
    assert own("flow", name) == ["layer1:in", "layer1", "layer2", "layer3"]
    width = 64 if short.endswith("x4") else 16
    assert shapes(name, own("stages", name)) == [(width * k, 32 // k, 32 // k) for k in (1, 2, 4)]
    check_pooled(name)
    check_before_relu(name)


def test_cifar_resnet50() -> None:
    name = "cifar:resnet50"
    stages = ["layer1", "layer2", "layer3", "layer4"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["layer2"]
    assert own("map", name) == ["layer4"]
    assert own("before_relu", name) == [
        "layer1.2.relu:in",
        "layer2.3.relu:in",
        "layer3.5.relu:in",
        "layer4.2.relu:in",
    ]
    assert own("flow", name) == ["layer1:in", *stages]
    assert shapes(name, stages) == [(256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4)]
    check_pooled(name)
    check_before_relu(name)


@pytest.mark.parametrize(("short", "k"), [("wrn_16_1", 1), ("wrn_16_2", 2), ("wrn_40_1", 1), ("wrn_40_2", 2)])
def test_cifar_wide_resnet(short: str, k: int) -> None:
    """Before the ReLU means behind the next BatchNorm there."""
    name = f"cifar:{short}"
    assert own("stages", name) == ["layer1", "layer2", "layer3"]
    assert own("middle", name) == ["layer2"]
    assert own("map", name) == ["relu"]
    assert own("before_relu", name) == ["layer2.0.bn1", "layer3.0.bn1", "bn"]
    assert own("flow", name) == ["layer1:in", "layer1", "layer2", "layer3"]
    sizes = [(16 * k, 32, 32), (32 * k, 16, 16), (64 * k, 8, 8)]
    assert shapes(name, own("stages", name)) == sizes
    assert shapes(name, own("before_relu", name)) == sizes
    assert all(f.min() < 0 for f in features(name, own("before_relu", name)))
    check_pooled(name)


@pytest.mark.parametrize(("short", "norm"), [("vgg8", 1), ("vgg13", 4)])
def test_cifar_vgg(short: str, norm: int) -> None:
    """The protocol takes the first of the five blocks for the stem."""
    name = f"cifar:{short}"
    stages = ["layer2", "layer3", "layer4", "layer5"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["layer3"]
    assert own("map", name) == ["layer5"]
    assert own("before_relu", name) == [f"{stage}.{norm}" for stage in stages]
    assert own("flow", name) == ["layer1", *stages]
    assert shapes(name, ["layer1", *stages]) == [
        (64, 32, 32),
        (128, 16, 16),
        (256, 8, 8),
        (512, 4, 4),
        (512, 4, 4),
    ]
    check_pooled(name)
    check_before_relu(name)


def test_cifar_mobilenet() -> None:
    """The blocks end without a ReLU; the last map is that of the convolution behind them."""
    name = "cifar:mobilenetv2"
    stages = ["layer2", "layer3", "layer5", "layer7"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["layer3"]
    assert own("map", name) == ["relu"]
    assert own("before_relu", name) == stages
    assert own("flow", name) == ["layer1:in", *stages]
    assert shapes(name, stages) == [(12, 16, 16), (16, 8, 8), (48, 4, 4), (160, 2, 2)]
    assert all(f.min() < 0 for f in features(name, stages))
    check_pooled(name)


@pytest.mark.parametrize(("version", "last"), [(1, "layer3"), (2, "relu")])
def test_cifar_shufflenet(version: int, last: str) -> None:
    name = f"cifar:shufflenetv{version}"
    stages = ["layer1", "layer2", "layer3"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["layer2"]
    assert own("map", name) == [last]
    assert own("before_relu", name) == ["layer1.3.relu:in", "layer2.7.relu:in", "layer3.3.relu:in"]
    assert own("flow", name) == ["layer1:in", *stages]
    width = (240, 480, 960) if version == 1 else (116, 232, 464)
    assert shapes(name, stages) == [(c, s, s) for c, s in zip(width, (16, 8, 4), strict=True)]
    check_pooled(name)
    check_before_relu(name)


def test_every_network_of_the_zoo_is_here() -> None:
    others = {"wrn_16_1", "wrn_16_2", "wrn_40_1", "wrn_40_2", "vgg8", "vgg13", "mobilenetv2"}
    others |= {"shufflenetv1", "shufflenetv2", "resnet50", "resnet32x4"}
    assert set(models.cifar.FACTORIES) == {*RESNETS, *others}


# Its pairs

THREE = {f"layer{i}": f"layer{i}" for i in (1, 2, 3)}
VGG = {f"layer{i}": f"layer{i}" for i in (2, 3, 4, 5)}


@pytest.mark.parametrize(
    ("teacher", "student", "stages"),
    [
        ("wrn-40-2", "wrn-16-2", THREE),
        ("wrn-40-2", "wrn-40-1", THREE),
        ("resnet56", "resnet20", THREE),
        ("resnet110", "resnet20", THREE),
        ("resnet110", "resnet32", THREE),
        ("resnet32x4", "resnet8x4", THREE),
        ("vgg13", "vgg8", VGG),
        (
            "vgg13",
            "mobilenetv2",
            {"layer2": "layer2", "layer3": "layer3", "layer5": "layer4", "layer7": "layer5"},
        ),
        (
            "resnet50",
            "mobilenetv2",
            {"layer2": "layer1", "layer3": "layer2", "layer5": "layer3", "layer7": "layer4"},
        ),
        (
            "resnet50",
            "vgg8",
            {"layer2": "layer1", "layer3": "layer2", "layer4": "layer3", "layer5": "layer4"},
        ),
        ("resnet32x4", "shufflenetv1", THREE),
        ("resnet32x4", "shufflenetv2", THREE),
        ("wrn-40-2", "shufflenetv1", THREE),
    ],
)
def test_published_pair(teacher: str, student: str, stages: dict[str, str]) -> None:
    pairs = found("stages", f"cifar:{student}", f"cifar:{teacher}")
    assert pairs == stages
    assert list(pairs) == list(stages)
    assert found("middle", f"cifar:{student}", f"cifar:{teacher}") == dict([list(stages.items())[1]])
    assert found("embedding", f"cifar:{student}", f"cifar:{teacher}") == {"linear:in": "linear:in"}


def test_the_last_maps_of_a_published_pair_are_those_of_the_classifiers() -> None:
    assert found("map", "cifar:mobilenetv2", "cifar:vgg13") == {"relu": "layer5"}
    assert found("map", "cifar:shufflenetv1", "cifar:wrn_40_2") == {"layer3": "relu"}


# Networks for photographs


@pytest.mark.parametrize(("short", "act"), [("resnet18", "act2"), ("resnet50", "act3")])
def test_timm_resnet(short: str, act: str) -> None:
    name = f"timm:{short}"
    stages = ["layer1", "layer2", "layer3", "layer4"]
    last = (1, 1, 1, 1) if short == "resnet18" else (2, 3, 5, 2)
    assert own("stages", name) == stages
    assert own("middle", name) == ["layer2"]
    assert own("map", name) == ["layer4"]
    assert own("embedding", name) == ["fc:in"]
    assert own("before_relu", name) == [
        f"{stage}.{block}.{act}:in:copy" for stage, block in zip(stages, last, strict=True)
    ]
    assert own("flow", name) == ["act1", *stages]
    width = 1 if short == "resnet18" else 4
    assert shapes(name, ["act1", *stages]) == [
        (64, 32, 32),
        (64 * width, 16, 16),
        (128 * width, 8, 8),
        (256 * width, 4, 4),
        (512 * width, 2, 2),
    ]
    check_pooled(name)
    check_before_relu(name)


@pytest.mark.parametrize(("short", "call"), [("resnet18", 2), ("resnet50", 3)])
def test_torchvision_resnet(short: str, call: int) -> None:
    """Its blocks call one ReLU several times, and in place."""
    name = f"torchvision:{short}"
    stages = ["layer1", "layer2", "layer3", "layer4"]
    last = (1, 1, 1, 1) if short == "resnet18" else (2, 3, 5, 2)
    assert own("stages", name) == stages
    assert own("map", name) == ["layer4"]
    assert own("embedding", name) == ["fc:in"]
    assert own("before_relu", name) == [
        f"{stage}.{block}.relu@{call}:in:copy" for stage, block in zip(stages, last, strict=True)
    ]
    assert own("flow", name) == ["relu", *stages]
    check_pooled(name)
    check_before_relu(name)


def test_torchvision_vgg() -> None:
    """One flat Sequential: a stage is what comes before a max pooling."""
    name = "torchvision:vgg11"
    stages = ["features.4", "features.9", "features.14", "features.19"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["features.9"]
    assert own("map", name) == ["features.19"]
    assert own("embedding", name) == ["classifier.6:in"]
    assert own("before_relu", name) == [f"{stage}:in:copy" for stage in stages]
    assert own("flow", name) == ["features.1", *stages]
    assert shapes(name, stages) == [(128, 32, 32), (256, 16, 16), (512, 8, 8), (512, 4, 4)]
    check_before_relu(name)


def test_torchvision_vgg_with_batch_norm() -> None:
    """By the BatchNorm itself, whose statistics OFD wants."""
    name = "torchvision:vgg11_bn"
    assert own("stages", name) == ["features.6", "features.13", "features.20", "features.27"]
    assert own("map", name) == ["features.27"]
    assert own("before_relu", name) == [f"features.{i}:copy" for i in (5, 12, 19, 26)]
    check_before_relu(name)


def test_timm_mobilenet() -> None:
    """The convolution behind the pooling is no map, and the one before it no stage."""
    name = "timm:mobilenetv3_small_100"
    stages = ["blocks.0", "blocks.1", "blocks.3", "blocks.4"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["blocks.1"]
    assert own("map", name) == ["blocks.5"]
    assert own("embedding", name) == ["classifier:in"]
    assert own("before_relu", name) == stages
    assert own("flow", name) == ["blocks.0:in", *stages]
    assert shapes(name, [*stages, "blocks.5"]) == [
        (16, 16, 16),
        (24, 8, 8),
        (48, 4, 4),
        (96, 2, 2),
        (576, 2, 2),
    ]
    assert all(f.min() < 0 for f in features(name, stages))


def test_timm_mobilenet_of_five_resolutions() -> None:
    assert own("stages", "timm:mobilenetv3_large_100") == ["blocks.1", "blocks.2", "blocks.4", "blocks.5"]
    assert own("map", "timm:mobilenetv3_large_100") == ["blocks.6"]


def test_torchvision_mobilenet() -> None:
    name = "torchvision:mobilenet_v2"
    assert own("stages", name) == ["features.3", "features.6", "features.13", "features.17"]
    assert own("map", name) == ["features.18"]
    check_pooled(name)


def test_timm_convnext() -> None:
    name = "timm:convnext_atto"
    stages = ["stages.0", "stages.1", "stages.2", "stages.3"]
    assert own("stages", name) == stages
    assert own("middle", name) == ["stages.1"]
    assert own("map", name) == ["stages.3"]
    assert own("embedding", name) == ["head.fc:in"]
    assert own("before_relu", name) == stages
    assert own("flow", name) == ["stages.0:in", *stages]
    assert shapes(name, stages) == [(40, 16, 16), (80, 8, 8), (160, 4, 4), (320, 2, 2)]
    assert all(f.min() < 0 for f in features(name, stages))


@pytest.mark.parametrize(
    ("name", "blocks", "side"),
    [
        ("timm:vit_tiny_patch16_224", (2, 5, 8, 11), 14),
        ("timm:beit_base_patch16_224", (1, 3, 5, 7), 14),
        ("timm:vit_small_patch32_224", (0, 2, 3, 5), 7),
    ],
)
def test_timm_vit_and_beit(name: str, blocks: tuple[int, ...], side: int) -> None:
    stages = [f"blocks.{block}:map" for block in blocks]
    assert own("stages", name) == stages
    assert own("middle", name) == [stages[1]]
    assert own("map", name) == [stages[-1]]
    assert own("embedding", name) == ["head:in"]
    assert own("before_relu", name) == stages
    assert own("flow", name) == ["blocks.0:in:map", *stages]
    width = network(name).get_submodule("head").in_features
    assert shapes(name, [*stages, "blocks.0:in:map"]) == [(width, side, side)] * 5
    assert shapes(name, ["head:in"]) == [(width,)]


def test_transformers_with_stages() -> None:
    """Swin's maps have their channels last."""
    name = "torchvision:swin_t"
    stages = [f"features.{i}:map" for i in (1, 3, 5, 7)]
    assert own("stages", name) == stages
    assert own("map", name) == ["permute"]
    assert shapes(name, stages) == [(96, 16, 16), (192, 8, 8), (384, 4, 4), (768, 2, 2)]
    check_pooled(name)


def test_timm_ghostnet() -> None:
    """Its blocks are made of two that are as large as others' blocks."""
    name = "timm:ghostnet_100"
    stages = ["blocks.2", "blocks.4", "blocks.6", "blocks.8"]
    assert own("stages", name) == stages
    assert own("flow", name) == ["blocks.1:in", *stages]
    assert own("map", name) == ["blocks.9"]
    assert own("embedding", name) == ["classifier:in"]
    assert shapes(name, stages) == [(24, 16, 16), (40, 8, 8), (112, 4, 4), (160, 2, 2)]


def test_timm_efficientformer() -> None:
    """Its last stage begins with maps and ends with tokens."""
    name = "timm:efficientformer_l1"
    stages = ["stages.0", "stages.1", "stages.2", "stages.3:map"]
    assert own("stages", name) == stages
    assert own("map", name) == ["stages.3:map"]
    assert shapes(name, stages) == [(48, 56, 56), (96, 28, 28), (224, 14, 14), (448, 7, 7)]


def test_timm_cait() -> None:
    """Its last blocks are of the class token alone."""
    name = "timm:cait_xxs24_224"
    assert own("stages", name) == ["blocks.0:map", "blocks.1:map", "blocks.2:map", "blocks.3:map"]
    assert own("map", name) == ["blocks.3:map"]
    assert own("embedding", name) == ["head:in"]


# Between the families


def test_cnn_and_vit_at_equal_relative_depth() -> None:
    assert found("stages", "torchvision:resnet18", "timm:vit_tiny_patch16_224") == {
        "layer1": "blocks.2:map",
        "layer2": "blocks.5:map",
        "layer3": "blocks.8:map",
        "layer4": "blocks.11:map",
    }
    assert found("stages", "timm:vit_tiny_patch16_224", "cifar:resnet20") == {
        "blocks.3:map": "layer1",
        "blocks.7:map": "layer2",
        "blocks.11:map": "layer3",
    }
    assert found("middle", "torchvision:resnet18", "timm:vit_tiny_patch16_224") == {"layer2": "blocks.5:map"}
    assert found("map", "timm:vit_tiny_patch16_224", "timm:resnet50") == {"blocks.11:map": "layer4"}
    assert found("embedding", "timm:mobilenetv3_small_100", "timm:beit_base_patch16_224") == {
        "classifier:in": "head:in"
    }
    assert found("flow", "timm:vit_tiny_patch16_224", "cifar:wrn_16_1") == {
        "blocks.0:in:map": "layer1:in",
        "blocks.3:map": "layer1",
        "blocks.7:map": "layer2",
        "blocks.11:map": "layer3",
    }


def test_transformers_of_unlike_depth() -> None:
    assert found("stages", "timm:vit_small_patch32_224", "timm:vit_tiny_patch16_224") == {
        "blocks.0:map": "blocks.2:map",
        "blocks.2:map": "blocks.5:map",
        "blocks.3:map": "blocks.8:map",
        "blocks.5:map": "blocks.11:map",
    }


def test_unlike_numbers_of_stages_meet_at_their_resolutions_and_at_the_end() -> None:
    assert found("stages", "cifar:resnet20", "cifar:resnet50") == {
        "layer1": "layer1",
        "layer2": "layer2",
        "layer3": "layer4",
    }
    assert found("stages", "cifar:resnet50", "cifar:shufflenetv2") == {
        "layer2": "layer1",
        "layer3": "layer2",
        "layer4": "layer3",
    }


def test_stages_without_a_common_resolution_meet_at_equal_relative_depth() -> None:
    """Four stages of 16, 8, 4 and 2 places of 64 pixels, and three of 32, 16 and 8 of 32."""
    assert found("stages", "cifar:resnet20", "timm:convnext_atto") == {
        "layer1": "stages.0",
        "layer2": "stages.1",
        "layer3": "stages.3",
    }
