"""The networks of the distillation protocol on CIFAR: what is published about them, and what all promise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck.calls import classifier, watch
from limbeck.errors import InputError
from limbeck.export.onnx import export_onnx, parity
from limbeck.knowledge import Batch
from limbeck.models import Built, build, multiply_adds, parameters
from limbeck.models.cifar import FACTORIES
from limbeck.students import mobilenet, shufflenet, vgg, wrn
from limbeck.taps import Tapped


@dataclass(frozen=True)
class Facts:
    """Parameters at 100 classes, the published millions, the width of the embedding, and how many stages."""

    count: int
    published: float | None
    embedding: int
    stages: int = 3
    options: dict[str, object] = field(default_factory=dict)


CONV: dict[str, object] = {"shortcut": "conv"}
FACTS = {
    "resnet8": Facts(83_892, None, 64, options=CONV),
    "resnet14": Facts(181_108, None, 64, options=CONV),
    "resnet20": Facts(278_324, 0.28, 64, options=CONV),
    "resnet32": Facts(472_756, 0.47, 64, options=CONV),
    "resnet44": Facts(667_188, None, 64, options=CONV),
    "resnet56": Facts(861_620, 0.86, 64, options=CONV),
    "resnet110": Facts(1_736_564, 1.74, 64, options=CONV),
    "resnet8x4": Facts(1_233_540, 1.23, 256),
    "resnet32x4": Facts(7_433_860, 7.43, 256),
    "wrn_16_1": Facts(180_916, 0.18, 64),
    "wrn_16_2": Facts(703_284, 0.70, 128),
    "wrn_40_1": Facts(569_780, 0.57, 64),
    "wrn_40_2": Facts(2_255_156, 2.26, 128),
    "vgg8": Facts(3_965_028, 3.96, 512, stages=5),  # cut off, not rounded
    "vgg13": Facts(9_462_180, 9.46, 512, stages=5),
    "mobilenetv2": Facts(812_836, 0.81, 1280, stages=7),
    "shufflenetv1": Facts(949_258, 0.95, 960),
    "shufflenetv2": Facts(1_355_528, 1.36, 1024),
    "resnet50": Facts(23_705_252, 23.71, 2048, stages=4),
}
# One of each kind: the others differ from them in numbers only.
KINDS = (
    "resnet8",
    "resnet8x4",
    "wrn_16_1",
    "vgg8",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2",
    "resnet50",
)


def make(name: str, classes: int = 100, channels: int = 3) -> Built:
    torch.manual_seed(0)
    return build(
        f"cifar:{name}",
        classes=classes,
        channels=channels,
        size=(32, 32),
        options=FACTS[name].options if name in FACTS else {},
        where="student",
    )


def test_every_network_has_its_facts_here() -> None:
    assert set(FACTORIES) == set(FACTS)


@pytest.mark.parametrize("name", FACTS)
def test_parameters_are_as_many_as_published(name: str) -> None:
    facts = FACTS[name]
    with torch.device("meta"):
        net = FACTORIES[name](num_classes=100, **facts.options)
    assert parameters(net) == facts.count
    if facts.published is not None:
        assert facts.count / 1e6 == pytest.approx(facts.published, abs=0.0051)


@pytest.mark.parametrize("name", FACTS)
def test_the_page_states_the_size_and_the_work(name: str) -> None:
    with torch.device("meta"):
        net = FACTORIES[name](num_classes=100, **FACTS[name].options)
        work = multiply_adds(net, torch.empty(1, 3, 32, 32))
    assert work is not None
    page = (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")
    assert f"| `{name}` | {FACTS[name].count:,} | {work / 1e6:,.1f} |" in page


@pytest.mark.parametrize("name", FACTS)
def test_colour_images_give_logits_and_every_parameter_a_gradient(name: str) -> None:
    net = make(name).model
    logits = net(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 100)
    assert torch.isfinite(logits).all()
    logits.square().sum().backward()
    without = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    # Biases in front of BatchNorm (vgg) are without effect, so their gradient is zero but for rounding.
    assert [key for key, p in net.named_parameters() if p.ndim > 1 and not p.grad.any()] == []  # type: ignore[union-attr]


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("side", [28, 8])
def test_grey_images_from_8_pixels_and_any_number_of_classes(name: str, side: int) -> None:
    built = make(name, classes=7, channels=1)
    assert built.input.channels == 1
    with torch.no_grad():
        logits = built.model(torch.rand(2, 1, side, side))
    assert logits.shape == (2, 7)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", FACTS)
def test_the_head_is_linear_and_reads_the_embedding(name: str) -> None:
    net = make(name).model.eval()
    found = classifier(watch(Tapped(net), Batch(torch.rand(2, 3, 8, 8))))
    assert found is not None
    last = found.module
    assert isinstance(last, nn.Linear)
    assert last is net.get_submodule("linear")
    with torch.no_grad():
        knowledge = Tapped(net, ["linear:in"])(torch.rand(2, 3, 8, 8))
    (embedding,) = knowledge.features
    assert embedding.shape == (2, last.in_features) == (2, FACTS[name].embedding)
    torch.testing.assert_close(last(embedding), knowledge.logits)


@pytest.mark.parametrize("name", KINDS)
def test_every_module_can_be_tapped(name: str) -> None:
    """No operation in place, no module that runs twice or never."""
    net = make(name).model
    names = [key for key, _ in net.named_modules()]
    stages = FACTS[name].stages
    assert {f"layer{i + 1}" for i in range(stages)} < set(names)
    assert f"layer{stages + 1}" not in names
    knowledge = Tapped(net, names)(torch.rand(2, 3, 16, 16))
    assert len(knowledge.features) == len(names)


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("wrn_16_1", [32, 16, 8]),
        ("vgg8", [32, 16, 8, 4, 4]),
        ("mobilenetv2", [16, 16, 8, 4, 4, 2, 2]),
        ("shufflenetv1", [16, 8, 4]),
        ("shufflenetv2", [16, 8, 4]),
        ("resnet50", [32, 16, 8, 4]),
        ("resnet8x4", [32, 16, 8]),
    ],
)
def test_stages_see_the_sizes_of_the_protocol(name: str, sides: list[int]) -> None:
    net = make(name).model.eval()
    with torch.no_grad():
        found = Tapped(net, [f"layer{i + 1}" for i in range(len(sides))])(torch.rand(1, 3, 32, 32))
    assert [f.shape[-1] for f in found.features] == sides


@pytest.mark.parametrize("name", KINDS)
def test_channels_last_and_saved_weights_give_the_same_answer(name: str) -> None:
    net = make(name).model.eval()
    x = torch.rand(2, 3, 16, 16)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    torch.manual_seed(1)
    other = FACTORIES[name](num_classes=100, **FACTS[name].options).eval()
    with torch.no_grad():
        wanted = net(x)
        assert not torch.equal(other(x), wanted)
        other.load_state_dict(state, strict=True)
        assert torch.equal(other(x), wanted)
        last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def shuffled() -> nn.Module:
    """Units of both versions of ShuffleNet, with a classifier: quicker to export than a whole network."""
    torch.manual_seed(0)
    units = (shufflenet.UnitV1(3, 30, 2, 1), shufflenet.UnitV1(30, 54, 2), shufflenet.UnitV2(54))
    rest = (shufflenet.DownV2(54, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5))
    return nn.Sequential(*units, *rest)


@pytest.mark.parametrize("network", [shuffled, pytest.param(shufflenet.shufflenetv2, marks=pytest.mark.slow)])
def test_shuffled_channels_survive_the_export(network: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = network()
    with torch.no_grad():
        for _ in range(5):
            net(torch.rand(8, 3, 16, 16))  # statistics that are not the initial ones
    samples = torch.rand(6, 3, 16, 16)
    path = export_onnx(net, samples[:2], tmp_path / "a.onnx")
    assert parity(net, path, [samples[:4], samples[4:]]).max_difference < 1e-4


# What each kind is made of, against the papers


def test_a_unit_deals_its_groups_out_like_cards_before_it_filters() -> None:
    torch.manual_seed(0)
    unit, x = shufflenet.UnitV1(24, 24, 1).eval(), torch.randn(2, 24, 5, 5)
    inner = torch.relu(unit.bn1(unit.conv1(x)))
    inner = inner[:, [0, 2, 4, 1, 3, 5]]  # three groups of two
    inner = torch.relu(unit.bn2(unit.conv2(inner)))
    torch.testing.assert_close(unit(x), torch.relu(unit.bn3(unit.conv3(inner)) + x))


def test_a_wide_block_activates_before_it_convolves() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 6)
    same, other = wrn.Block(4, 4, 1, 0.0).eval(), wrn.Block(4, 8, 2, 0.0).eval()
    assert same.shortcut is None
    assert isinstance(other.shortcut, nn.Conv2d)

    def residual(block: wrn.Block) -> Tensor:
        return block.conv2(torch.relu(block.bn2(block.conv1(torch.relu(block.bn1(x))))))

    torch.testing.assert_close(same(x), x + residual(same))
    torch.testing.assert_close(other(x), other.shortcut(torch.relu(other.bn1(x))) + residual(other))


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net, x = wrn.wrn_16_1(dropout=0.5), torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))


def test_an_inverted_residual_adds_only_where_the_shape_stays() -> None:
    kinds = [
        mobilenet.InvertedResidual(*arguments).adds
        for arguments in ((8, 8, 1, 6), (8, 8, 2, 6), (8, 9, 1, 6))
    ]
    assert kinds == [True, False, False]


def test_the_first_unit_of_a_stage_keeps_its_averaged_input_behind_its_own_channels() -> None:
    unit = shufflenet.UnitV1(24, 240, 2).eval()
    x = torch.rand(1, 24, 6, 6)
    torch.testing.assert_close(unit(x)[:, 216:], nn.AvgPool2d(3, 2, padding=1)(x))


def test_half_of_the_channels_pass_a_unit_of_the_second_version_untouched() -> None:
    unit = shufflenet.UnitV2(8).eval()
    x = torch.rand(1, 8, 4, 4)
    assert torch.equal(unit(x)[:, ::2], x[:, :4])


def test_the_width_of_mobilenet_leaves_the_last_convolution_alone() -> None:
    with torch.device("meta"):
        heads = [mobilenet.mobilenetv2(width=width).linear for width in (0.25, 1.0, 1.5)]
    assert [h.in_features for h in heads] == [1280, 1280, 1920]


# The arguments and the names


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: wrn.WideResNet(17), "6n [+] 4"),
        (lambda: wrn.WideResNet(4), "6n [+] 4"),
        (lambda: wrn.WideResNet(16, 0), "widen must be at least 1"),
        (lambda: wrn.wrn_16_1(dropout=1.0), "dropout must be at least 0 and below 1"),
        (lambda: vgg.VGG(0), "convolutions must be at least 1"),
        (lambda: mobilenet.mobilenetv2(width=0), "width must leave at least one of 16 channels"),
        (lambda: shufflenet.shufflenetv1(0), "num_classes must be at least 1"),
        (lambda: shufflenet.shufflenetv2(in_channels=0), "in_channels must be at least 1"),
    ],
)
def test_arguments_outside_their_range_are_refused(make_it: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_it()


def test_names_may_be_written_with_hyphens() -> None:
    assert make("wrn-16-1").name == "cifar:wrn_16_1"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("wrn_40_3", "wrn_40_2"),
        ("mobilnetv2", "mobilenetv2"),
        ("shufflenet_v1", "shufflenetv1"),
        ("vgg88", "vgg8"),
    ],
)
def test_a_misspelt_name_gets_the_nearest(given: str, meant: str) -> None:
    with pytest.raises(InputError, match=f'unknown network "{given}". Did you mean "{meant}"'):
        make(given)
