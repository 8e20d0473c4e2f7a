"""`layers: auto` finds the layers that belong together, or says what is missing.

Which these are in networks that are known by name: test_pairing_zoo.py.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import limbeck
from limbeck import models
from limbeck.build import load_data
from limbeck.errors import InputError
from limbeck.knowledge import Batch
from limbeck.methods.attention_transfer import AttentionTransfer
from limbeck.pairing import alike, pair, settle_layers
from limbeck.progress import Silent
from limbeck.recipe import Recipe
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


def own(model: nn.Module, prefers: str, side: tuple[int, int] = (32, 32)) -> list[str]:
    """What is found in a network that is paired with itself."""
    whole = Tapped(model, (), who="student")
    return list(pair(whole, whole, Batch(torch.rand(2, 3, *side)), prefers))


class Expanding(nn.Module):
    """Widens at the old resolution before it halves, and pools for a gate: what is inside is no stage."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(before, 4 * before, 1)
        self.relu = nn.ReLU()
        self.filter = nn.Conv2d(4 * before, 4 * before, 3, 2, padding=1, groups=4 * before)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4 * before, 4 * before, 1), nn.Sigmoid())
        self.narrow = nn.Conv2d(4 * before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.filter(self.relu(self.widen(x))))
        narrow: Tensor = self.narrow(x * self.gate(x))
        return narrow


class Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.layers = nn.Sequential(Expanding(4, 6), Expanding(6, 8), Expanding(8, 10))
        self.drop = nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        last: Tensor = self.drop(self.layers(self.stem(x)))
        return last


class Wrapped(nn.Module):
    """A backbone inside a module of its own, as many write their networks."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.head = nn.Linear(10, 5)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(image).mean((2, 3)))
        return logits


def test_what_is_inside_a_block_is_no_stage() -> None:
    assert own(Wrapped(), "stages") == [f"backbone.layers.{i}" for i in range(3)]
    assert own(Wrapped(), "map") == ["backbone.layers.2"]
    assert own(Wrapped(), "flow")[0] == "backbone.layers.0:in"
    assert own(Wrapped(), "embedding") == ["head:in"]


class Doubling(nn.Module):
    """A block of two parts as large as blocks, with a halving between them: GhostNet's."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, before, 1), nn.Conv2d(before, after, 3, padding=1))
        self.halve = nn.Conv2d(after, after, 3, 2, padding=1, groups=after)
        self.second = nn.Sequential(nn.Conv2d(after, after, 1), nn.Conv2d(after, after, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.second(self.halve(self.first(x)))
        return halved


def test_what_a_network_has_many_of_is_a_block_whatever_is_inside() -> None:
    model = nn.Sequential(
        nn.Sequential(Doubling(3, 4), Doubling(4, 6), Doubling(6, 8)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    assert own(model, "stages") == ["0.0", "0.1", "0.2"]


class Sections(nn.Module):
    """Stages under names of their own, of one convolution or two, at strides; a second head runs last."""

    def __init__(self, *strides: int, convolutions: int = 2, last: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.count = len(strides)
        for number, stride in enumerate(strides):
            before = 3 if number == 0 else 4
            more = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(convolutions - 1)]
            first = nn.Conv2d(before, 4, 3, stride, padding=1)
            self.add_module(f"section{number}", nn.Sequential(first, *more, last()))
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        for number in range(self.count):
            x = self.get_submodule(f"section{number}")(x)
        rest: Tensor = self.norm(x)
        return rest


class Headed(nn.Module):
    """A backbone, its classifier, and another head whose answer it does not give."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head, self.other = nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.backbone(x).mean((2, 3))
        logits: Tensor = self.head(pooled)
        self.other(pooled)
        return logits


def test_the_classifier_is_what_answers() -> None:
    assert own(Headed(Sections(1, 2)), "embedding") == ["head:in"]


@pytest.mark.parametrize(("strides", "convolutions"), [((1, 2), 2), ((1, 2, 2), 1)])
def test_a_backbone_is_no_stage_but_holds_them(strides: tuple[int, ...], convolutions: int) -> None:
    model = Headed(Sections(*strides, convolutions=convolutions))
    assert own(model, "stages") == [f"backbone.section{i}" for i in range(len(strides))]


def test_a_norm_behind_a_stage_counts_where_a_relu_may_follow_it() -> None:
    model = Headed(Sections(1, 2, last=nn.GELU))
    assert own(model, "before_relu") == ["backbone.section0", "backbone.section1"]
    model = Headed(nn.Sequential(Sections(1, 2, last=nn.Identity), nn.ReLU()))
    assert own(model, "before_relu") == ["backbone.0.section0", "backbone.0.norm"]


def test_a_stage_is_in_one_pair_at_most_and_their_order_stays() -> None:
    """Levels 1, 2, 2, 2 and 1, 2, 3."""
    ours = Tapped(Headed(Sections(2, 2, 1, 1)), (), who="student")
    theirs = Tapped(Headed(Sections(2, 2, 2)), (), who="teacher")
    assert pair(ours, theirs, IMAGES, "stages") == {
        f"backbone.section{one}": f"backbone.section{other}" for one, other in ((0, 0), (2, 1), (3, 2))
    }


class Transformer(nn.Module):
    """Patches by two convolutions, then an encoder that holds a list of blocks."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.patches = Patches()
        self.encoder = Encoder(blocks)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.patches(x)).mean(1))
        return logits


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.second(self.first(x))
        return maps.flatten(2).transpose(1, 2)


class Encoder(nn.Module):
    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Mixing() for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Mixing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x).relu())


def test_the_blocks_of_a_transformer_are_found_in_its_encoder() -> None:
    model = Transformer(3)
    assert own(model, "stages") == [f"encoder.layers.{i}:map" for i in range(3)]
    assert own(model, "flow")[0] == "encoder.layers.0:in:map"
    assert own(model, "map") == ["encoder.layers.2:map"]
    deep, shallow = (Tapped(Transformer(n), (), who="teacher") for n in (8, 2))
    assert pair(shallow, deep, IMAGES, "stages") == {
        "encoder.layers.0:map": "encoder.layers.3:map",
        "encoder.layers.1:map": "encoder.layers.7:map",
    }


class Behind(nn.Module):
    """A transformer that is called as one module, from images to tokens; it has a class token."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x)[:, 0])
        return logits


class Tokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


def test_a_transformer_may_stand_behind_a_call_of_one_module() -> None:
    model = Behind(Patches(), Encoder(3))
    assert own(model, "stages") == [f"body.1.layers.{i}:map" for i in range(3)]
    assert own(model, "map") == ["body.1.layers.2:map"]
    assert own(model, "classified") == ["head:in"]


def test_the_last_stage_may_turn_maps_into_tokens() -> None:
    """As EfficientFormer's does."""

    def stage(before: int, *more: nn.Module) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, padding=1), *more)

    model = Behind(stage(3), stage(4), nn.Sequential(stage(4), stage(4)[1:], Tokens(), Mixing()))
    assert own(model, "stages") == ["body.0", "body.1", "body.2:map"]
    assert own(model, "map") == ["body.2:map"]


class Pointed(nn.Module):
    """Blocks over all tokens, then one over the class token alone, as CaiT has; and one on every patch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = Patches(), nn.Linear(4, 5)
        self.inside = nn.ModuleList([Mixing()])
        self.blocks = nn.ModuleList([Mixing(), Mixing()])
        self.last = nn.ModuleList([Mixing()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        pixels = self.inside[0](x.flatten(0, 1)[:, None].expand(-1, 4, -1))
        x = x + pixels.mean(1).reshape(x.shape)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.last[0](x.mean(1, keepdim=True))[:, 0])
        return logits


def test_blocks_are_of_all_places_of_a_sample() -> None:
    assert own(Pointed(), "stages") == ["blocks.0:map", "blocks.1:map"]
    assert own(Pointed(), "map") == ["blocks.1:map"]


def test_classified_is_the_map_where_both_classifiers_average_it() -> None:
    student, teacher = network("torchvision:resnet18"), network("cifar:resnet20", "teacher")
    assert pair(student, teacher, IMAGES, "map") == {"layer3": "layer3"}
    # At 32 pixels its classifier takes layer4, which has one place.
    assert pair(student, teacher, IMAGES, "classified") == {"fc:in": "linear:in"}
    assert pair(teacher, student, IMAGES, "classified") == {"linear:in": "fc:in"}
    assert pair(teacher, teacher, IMAGES, "classified") == {"layer3": "layer3"}
    flat = Tapped(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), (), who="student")
    assert pair(flat, teacher, IMAGES, "classified") == {"1:in": "linear:in"}


def test_a_map_that_is_changed_before_it_is_averaged_is_not_what_the_classifier_takes() -> None:
    """The tap reads a copy from before that."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 5),
    )  # fmt: skip
    assert own(model, "classified") == ["2"]

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.fc = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(F.relu(self.body(x), inplace=True).mean((2, 3)))
            return logits

    assert own(Functional(), "classified") == ["fc:in"]


def test_a_network_that_squeezes_is_asked_about_two_samples() -> None:
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm1d(4), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(self.norm(F.adaptive_avg_pool2d(self.body(x), 1).squeeze()))
            return logits

    assert own(Squeezing(), "embedding") == ["fc:in"]


def test_a_network_that_cannot_take_the_images_is_told() -> None:
    with pytest.raises(
        InputError, match=r"student: cannot take input of shape \[3, 32, 32\]: .*student\.input"
    ):
        own(nn.Linear(7, 5), "embedding")
    model = convnet()
    with pytest.raises(InputError, match="cannot take input"):
        own(model, "map")
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_images_need_not_be_square() -> None:
    assert own(Wrapped(), "stages", (18, 50)) == [f"backbone.layers.{i}" for i in range(3)]


def test_pooling_ends_a_stage_and_is_none() -> None:
    """Even as the last member of its Sequential."""

    def stage(before: int, after: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))

    model = nn.Sequential(stage(3, 4), stage(4, 6), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))
    assert own(model, "stages") == ["0.1", "1.1"]
    assert own(model, "map") == ["1.1"]
    assert own(model, "before_relu") == ["0.1:in:copy", "1.1:in:copy"]


def test_a_network_that_begins_with_its_first_stage_has_no_stem() -> None:
    assert own(convnet(in_channels=3, depth=3), "stages") == ["stage1", "stage2", "stage3"]
    assert own(convnet(in_channels=3, depth=3), "flow") == ["stage1", "stage2", "stage3"]
    assert own(convnet(in_channels=3, depth=3), "middle") == ["stage2"]
    assert own(convnet(in_channels=3, depth=3), "before_relu") == ["stage1.1", "stage2.1", "stage3.1"]


def test_a_module_that_is_used_again_is_named_by_its_call() -> None:
    block = nn.Sequential(nn.Conv2d(3, 3, 3, 2, padding=1), nn.ReLU())
    model = nn.Sequential(block, block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    assert own(model, "stages") == ["0@1", "0@2"]
    assert own(model, "before_relu") == ["0.1@1:in", "0.1@2:in"]


class Functional(nn.Module):
    """Ends its stages by a function, which has no name."""

    def __init__(self, last: str = "relu") -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, 2, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.last = getattr(F, last)

    def forward(self, x: Tensor) -> Tensor:
        active: Tensor = self.last(self.two(F.relu(self.one(x))))
        return active


def test_a_relu_that_cannot_be_tapped_is_told() -> None:
    def made(last: str) -> nn.Module:
        return nn.Sequential(Functional(last), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))

    with pytest.raises(
        InputError, match=r'last ReLU of the student\'s "0", and that is no module.*nn\.ReLU\(\)'
    ):
        own(made("relu"), "before_relu")
    assert own(made("gelu"), "before_relu") == ["0"]


def test_a_pair_can_be_tapped_and_has_the_shapes_that_were_meant() -> None:
    student, teacher = network("cifar:resnet20"), network("torchvision:resnet18", "teacher")
    for prefers, dims in (("embedding", 2), ("map", 4), ("stages", 4), ("before_relu", 4), ("flow", 4)):
        for ours, theirs in pair(student, teacher, IMAGES, prefers).items():
            for whole, tap in ((student, ours), (teacher, theirs)):
                tapped = Tapped(whole.model, [tap]).eval()
                assert tapped(IMAGES.input).features[0].ndim == dims
                tapped.close()


def test_asking_leaves_no_trace() -> None:
    student = network("cifar:resnet20").train()
    student.model.bn1.eval()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    pair(student, student, IMAGES, "stages")
    assert student.training
    assert not student.model.bn1.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in student.model.modules())


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


RECIPE: dict[str, Any] = {
    "name": "one",
    "teacher": {"model": "py:limbeck.students.small:convnet", "width": 8},
    "student": {"model": "py:limbeck.students.small:convnet", "width": 4},
    "data": {"source": "digits", "batch_size": 32},
    "objective": {"cross_entropy": 1, "attention_transfer": {"weight": 1, "layers": "auto"}},
    "train": {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
}


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def settled(**changes: Any) -> tuple[Recipe, list[str]]:
    recipe = Recipe.from_dict({**RECIPE, **changes})
    heard = Heard()
    return settle_layers(recipe, load_data(recipe), heard), heard.lines


def test_what_was_found_is_said_and_written_into_every_objective_of_the_recipe() -> None:
    layers = {"stage1": "stage1", "stage2": "stage2"}
    term = {"attention_transfer": {"weight": 1, "layers": "auto"}}
    recipe, lines = settled(
        stages=[{"name": "first", "epochs": 1, "objective": term}], variants={"v.1": {"objective": term}}
    )
    for terms in recipe.objectives().values():
        assert terms["attention_transfer"].layers == layers
    shown = "attention_transfer: layers stage1 ← stage1, stage2 ← stage2"
    assert sorted(lines) == sorted(
        [
            f"objective.{shown}",
            f"stages.0.objective.{shown}",
            f"variants.v.1.objective.{shown}",
        ]
    )


@pytest.mark.parametrize("layers", ["auto", {"layer3": "stage2"}])
def test_what_the_literature_warns_of_is_said_between_networks_built_differently(layers: Any) -> None:
    """Of layers that were given by hand too."""
    terms = {"cross_entropy": 1, "attention_transfer": {"weight": 1, "layers": layers}}
    student = {"model": "cifar:resnet8", "width": 4}
    _, lines = settled(objective=terms, student=student)
    assert [line for line in lines if "layers" not in line] == [
        "objective.attention_transfer: ResNet and Sequential are built differently. "
        + AttentionTransfer.unlike
    ]
    _, lines = settled(
        objective={**terms, "attention_transfer": {"weight": 0, "layers": layers}}, student=student
    )
    assert not [line for line in lines if "differently" in line]


def test_networks_are_alike_by_the_names_of_their_classes() -> None:
    def model(name: str) -> nn.Module:
        return network(f"cifar:{name}").model

    assert alike(model("resnet8"), model("resnet32x4"))
    assert alike(model("vgg8"), model("vgg13"))
    assert alike(model("resnet8"), model("resnet50"))
    assert not alike(model("resnet8"), model("wrn_16_1"))
    assert not alike(model("vgg8"), model("mobilenetv2"))
