"""`Tapped` reads what a layer really gave, under any name and compiled or not, or says why it cannot."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import InputError
from limbeck.taps import Tap, Tapped


def images(count: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


class Residual(nn.Module):
    """Conv, BatchNorm and in-place ReLU around a sum that is written into the BatchNorm's output."""

    def __init__(self, in_place_sum: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 4)
        self.in_place_sum = in_place_sum

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        if self.in_place_sum:
            y += x
        y = self.relu(y)
        logits: Tensor = self.head(y.mean((2, 3)))
        return logits


class Odd(nn.Module):
    """A layer that gives several things, one that is called twice under two names, one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.many = Many()
        self.shared = nn.Sigmoid()
        self.alias = self.shared
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.many(x=x.mean((2, 3)))
        logits: Tensor = self.head(self.alias(self.shared(first) + second))
        return logits


class Many(nn.Module):
    def forward(self, *, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, -x


def seeded(build: type[nn.Module], **options: Any) -> Any:
    torch.manual_seed(0)
    return build(**options).eval()


@pytest.mark.parametrize(
    ("text", "path", "call", "entering", "form"),
    [
        ("layer3.0.conv2", "layer3.0.conv2", None, False, "whole"),
        ("layer3:in", "layer3", None, True, "whole"),
        ("encoder:12", "encoder", None, False, "12"),
        ("block1.block1-0", "block1.block1-0", None, False, "whole"),
        ("bn1:copy", "bn1", None, False, "copy"),
        ("blocks.11:map", "blocks.11", None, False, "map"),
        ("relu@2", "relu", 2, False, "whole"),
        ("relu@10:copy", "relu", 10, False, "copy"),
        ("relu@3:in:copy", "relu", 3, True, "copy"),
        ("blocks.0:in:map", "blocks.0", None, True, "map"),
        ("decoder:in:1", "decoder", None, True, "1"),
        ("", "", None, False, "whole"),
        (":0", "", None, False, "0"),
        (":in", "", None, True, "whole"),
    ],
)
def test_a_tap_is_parsed(text: str, path: str, call: int | None, entering: bool, form: str) -> None:
    assert Tap.parse(text) == Tap(text, path, call, entering, form)


@pytest.mark.parametrize(
    "text",
    [
        "relu@0",
        "relu@",
        "a:b",
        "a b",
        "relu:in@2",
        "a:-1",
        "a::in",
        "a:in ",
        "a:copy:in",
        "a:copy:map",
        "a:in:in",
    ],
)
def test_a_tap_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is not of the form path\[@call\]"):
        Tap.parse(text)


def test_output_and_input_are_what_the_layer_had() -> None:
    net = seeded(Residual, in_place_sum=False)
    x = images()
    conv = net.conv(x)
    said = Tapped(net, ["conv", "conv:in", "bn:copy", "head:in", ""])(x)
    torch.testing.assert_close(said.features[0], conv, rtol=0, atol=0)
    torch.testing.assert_close(said.features[1], x, rtol=0, atol=0)
    torch.testing.assert_close(said.features[2], net.bn(conv), rtol=0, atol=0)
    torch.testing.assert_close(said.features[3], net.bn(conv).relu().mean((2, 3)), rtol=0, atol=0)
    assert said.features[4] is said.logits


def test_the_adapter_stands_before_the_network() -> None:
    net = seeded(Residual, in_place_sum=False)
    said = Tapped(net, [":in"], adapter=nn.Hardtanh())(10 * images())
    assert float(said.features[0].abs().max()) == 1.0


@pytest.mark.parametrize("tap", ["bn", "bn@1"])
@pytest.mark.parametrize("in_place_sum", [True, False])
def test_an_output_that_is_changed_in_place_later_is_noticed(tap: str, in_place_sum: bool) -> None:
    net = seeded(Residual, in_place_sum=in_place_sum)
    with pytest.raises(InputError, match=rf'student: the output of "bn" is changed in place.*"{tap}:copy"'):
        Tapped(net, [tap], who="student")(images())


def test_a_copy_is_the_value_before_the_change() -> None:
    net = seeded(Residual)
    x = images()
    with torch.no_grad():
        wanted = net.bn(net.conv(x))
        assert torch.equal(Tapped(net, ["bn:copy"])(x).features[0], wanted)


def test_the_input_that_its_own_layer_changes_in_place_is_noticed() -> None:
    """Read after the layer ran, the input of an in-place ReLU would be its output."""
    with pytest.raises(InputError, match=r'the input of "relu" is changed in place.*Tap "relu:in:copy"'):
        Tapped(seeded(Residual), ["relu:in"])(images())
    with pytest.raises(InputError, match=r'Tap "relu@1:in:copy"'):
        Tapped(seeded(Residual), ["relu@1:in"])(images())


def test_a_copy_of_an_input_is_the_value_before_its_own_layer_changes_it() -> None:
    net = seeded(Residual)
    x = images()
    with torch.no_grad():
        wanted = net.bn(net.conv(x)) + x
    said = Tapped(net, ["relu:in:copy"])(x)
    assert torch.equal(said.features[0], wanted)
    assert said.features[0].min() < 0
    said.features[0].sum().backward()
    assert net.conv.weight.grad is not None


class Tokens(nn.Module):
    """Gives what it was made with, for every sample."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.layer(self.value.expand(len(x), *self.value.shape))
        return given.flatten(1)[:, :2]


@pytest.mark.parametrize("others", [0, 1, 5, 8])
@pytest.mark.parametrize("tap", ["layer:map", "layer:in:map"])
def test_tokens_become_the_map_that_they_are_patches_of(others: int, tap: str) -> None:
    """Row by row, without the class token and the registers before them."""
    patches = torch.arange(25 * 4.0).reshape(25, 4)
    tokens = torch.cat((torch.full((others, 4), -1.0), patches))
    said = Tapped(Tokens(tokens), [tap])(images(2)).features[0]
    assert said.shape == (2, 4, 5, 5)
    for row in range(5):
        for column in range(5):
            assert torch.equal(said[1, :, row, column], patches[5 * row + column])


def test_maps_with_the_channels_last_become_maps() -> None:
    grid = torch.rand(3, 5, 4)
    said = Tapped(Tokens(grid), ["layer:map"])(images(2)).features[0]
    assert torch.equal(said[0], grid.permute(2, 0, 1))


def test_what_no_map_can_be_made_of_is_refused() -> None:
    with pytest.raises(InputError, match=r'"layer:map": 45 tokens are no square.*tap "layer" for'):
        Tapped(Tokens(torch.rand(45, 4)), ["layer:map"])(images())
    with pytest.raises(InputError, match=r'"layer:map" makes a map of tokens.* gives \[3, 4\]; tap "layer"'):
        Tapped(Tokens(torch.rand(4)), ["layer:map"])(images())
    with pytest.raises(InputError, match=r'is given a tensor, so there is no item to choose; tap "layer:in"'):
        Tapped(Tokens(torch.rand(4)), ["layer:in:0"])(images())


def test_the_output_of_an_in_place_layer_is_read() -> None:
    net = seeded(Residual, in_place_sum=False)
    x = images()
    assert torch.equal(Tapped(net, ["relu"])(x).features[0], net.bn(net.conv(x)).relu())


def test_calls_of_a_layer_that_runs_twice() -> None:
    net = seeded(Odd)
    x = images()
    flat = x.mean((2, 3))
    said = Tapped(net, ["shared@1", "shared@2", "alias@2:in"])(x)
    assert torch.equal(said.features[0], flat.sigmoid())
    assert torch.equal(said.features[1], (flat.sigmoid() - flat).sigmoid())
    assert torch.equal(said.features[2], flat.sigmoid() - flat)


def test_items_of_a_tuple_and_an_input_given_by_name() -> None:
    x = images()
    said = Tapped(seeded(Odd), ["many:0", "many:1", "many:in"])(x)
    assert torch.equal(said.features[0], x.mean((2, 3)))
    assert torch.equal(said.features[1], -x.mean((2, 3)))
    assert torch.equal(said.features[2], x.mean((2, 3)))


@pytest.mark.parametrize(
    ("tap", "message"),
    [
        ("shared", r'"shared" runs 2 times in one forward pass; say which, "shared@1" to "shared@2"'),
        ("shared@3", r'tap "shared@3" wants call 3, but the layer runs 2 times'),
        ("many", r'"many" gives a tuple, not a tensor; name an item of it, "many:0"'),
        ("many:copy", r'"many" gives a tuple, not a tensor'),
        ("many:2", r'tap "many:2" finds no item 2: the layer gives a tuple of 2 items'),
        ("head:1", r'"head" gives a tensor, so there is no item to choose; tap "head"'),
        ("unused", r'"unused" exists but no forward pass reaches it'),
        ("heed", r'no layer "heed"\. Did you mean "head"\? Layers: many, shared, alias'),
        ("head.weight", r'no layer "head\.weight"'),
    ],
)
def test_a_tap_that_cannot_be_read_says_why(tap: str, message: str) -> None:
    with pytest.raises(InputError, match=f"teacher: .*{message}"):
        Tapped(seeded(Odd), [tap], who="teacher")(images())


def test_an_answer_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(InputError, match="student: must answer a tensor of logits; it answers tuple"):
        Tapped(nn.LSTM(8, 2), who="student")(images()[:, 0])


def test_features_carry_the_gradient() -> None:
    net = seeded(Residual)
    Tapped(net, ["bn:copy"])(images()).features[0].sum().backward()
    assert net.conv.weight.grad is not None
    assert net.head.weight.grad is None


def test_nothing_is_kept_after_the_answer() -> None:
    """Kept features would hold the graph until the next batch, and could not be copied with the network."""
    net = seeded(Residual)
    tapped = Tapped(net, ["conv", "bn:copy"])
    said = tapped(images())
    double = copy.deepcopy(tapped)
    net(images())  # the plain network, used by itself while it is tapped
    kept = [value for notes in (tapped._notes, double._notes) for seen in notes.seen for value in seen]
    assert kept == []
    assert all(torch.equal(a, b) for a, b in zip(double(images()).features, said.features, strict=True))


def test_a_failed_forward_leaves_nothing_behind() -> None:
    tapped = Tapped(seeded(Residual), ["conv"])
    with pytest.raises(RuntimeError):
        tapped(torch.zeros(1, 3))
    assert tapped(images(2)).features[0].shape == (2, 3, 8, 8)


def test_a_deep_copy_reads_itself() -> None:
    tapped = Tapped(seeded(Residual), ["conv"])
    double = copy.deepcopy(tapped)
    with torch.no_grad():
        double.model.conv.weight.mul_(2)
    x = images()
    assert not torch.equal(tapped(x).features[0], double(x).features[0])
    assert torch.equal(double(x).features[0], double.model.conv(x))
    double.close()
    assert double(x).features == ()
    assert len(tapped(x).features) == 1
    tapped.close()


def test_two_networks_may_tap_the_same_model() -> None:
    net = seeded(Residual)
    one, two = Tapped(net, ["conv"]), Tapped(net, ["head", "conv"])
    x = images()
    assert [f.shape for f in one(x).features] == [(3, 3, 8, 8)]
    assert [f.shape for f in two(x).features] == [(3, 4), (3, 3, 8, 8)]
    one.close()
    assert len(two(x).features) == 2


def test_closing_leaves_the_plain_network_as_it_came() -> None:
    net = seeded(Odd)
    tapped = Tapped(net, ["many:0", "shared@1:in", "alias@2", "head"])
    assert tapped.tapped_modules == (net.many, net.shared, net.shared, net.head)
    tapped.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert tapped(images()).features == ()
    assert set(net.state_dict()) == set(seeded(Odd).state_dict())


def test_a_compiled_network_is_refused() -> None:
    inner, whole = seeded(Residual), seeded(Residual)
    inner.conv.compile(backend="eager")
    for model in (inner, torch.compile(whole, backend="eager"), nn.Sequential(torch.compile(whole))):
        with pytest.raises(InputError, match=r"student: the network is compiled already.*train\.compile"):
            Tapped(model, ["head"], who="student")
    assert Tapped(torch.compile(whole, backend="eager"))(images()).logits.shape == (3, 4)


TAPS = ["conv:in", "bn:copy", "relu:in:copy", "relu", "head:in", "head"]


def compare_with_eager(backend: str) -> None:
    net = seeded(Residual)
    eager, compiled = Tapped(copy.deepcopy(net), TAPS), Tapped(net, TAPS)
    compiled.compile(backend=backend, fullgraph=True)
    for seed in range(2):
        x = images(seed=seed)
        wanted, got = eager(x), compiled(x)
        torch.testing.assert_close(got.logits, wanted.logits)
        torch.testing.assert_close(got.features, wanted.features)
        sum(f.square().mean() for f in wanted.features).backward()
        sum(f.square().mean() for f in got.features).backward()
    torch.testing.assert_close(net.conv.weight.grad, eager.model.conv.weight.grad)
    assert not compiled._notes.on
    assert not any(compiled._notes.seen)


def test_compiled_in_one_graph_the_features_are_the_same() -> None:
    torch._dynamo.reset()
    compare_with_eager("aot_eager")


@pytest.mark.slow
def test_compiled_by_inductor_the_features_are_the_same() -> None:
    torch._dynamo.reset()
    compare_with_eager("inductor")


def test_compiled_calls_items_and_shared_layers_are_the_same() -> None:
    torch._dynamo.reset()
    net = seeded(Odd)
    taps = ["many:1", "many:in", "shared@1", "alias@2:in", "shared@2"]
    x = images()
    wanted = Tapped(copy.deepcopy(net), taps)(x)
    compiled = Tapped(net, taps)
    compiled.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x).features, wanted.features)
