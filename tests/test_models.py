"""Networks by name."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limbeck import weights
from limbeck.calls import classifier, watch
from limbeck.errors import InputError, WorkError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, InputSpec
from limbeck.knowledge import Batch
from limbeck.models import Built, build, multiply_adds, parameters
from limbeck.models.run import notes
from limbeck.taps import Tapped


def make(
    name: str,
    options: Mapping[str, object] | None = None,
    *,
    classes: int = 10,
    channels: int = 3,
    beside: Path | None = None,
    pretrained: bool = False,
) -> Built:
    return build(
        name,
        classes=classes,
        channels=channels,
        size=(32, 32),
        options=options or {},
        where="student",
        beside=beside,
        pretrained=pretrained,
    )


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Writes a user's module beside a recipe and forgets it afterwards."""

    def write(text: str, folder: str = "recipe") -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "my_nets.py").write_text(text)
        return tmp_path / folder

    yield write
    sys.modules.pop("my_nets", None)


NET = """
from torch import nn
def net(num_classes, in_channels=3, width=4, **rest):
    return nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(width, num_classes))
"""


# The prefixes


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet20", r'student\.model: "resnet20" names no network'),
        ("cifar:", "names no network"),
        ("cifr:resnet20", 'unknown prefix "cifr". Did you mean "cifar"'),
        ("onnx:a.onnx", '"onnx:" is not yet supported'),
        ("hf:./nowhere", "there is no folder hf:./nowhere"),
        ("cifar:resnt20", 'unknown network "resnt20". Did you mean "resnet20"'),
        ("timm:resnt18", 'unknown network "resnt18". Did you mean "resnet18"'),
        ("timm:hf-hub:org/name", "unknown network"),
        ("torchvision:resnt18", 'unknown network "resnt18". Did you mean "resnet18"'),
        ("torchvision:fcn_resnet50", "unknown network"),
        ("py:nothing", 'must be "py:package.module:factory"'),
        ("py:no_such_module_at_all:f", 'no module "no_such_module_at_all"'),
        ("run:no/such/folder", "no run folder. Looked at: no/such/folder"),
    ],
)
def test_a_name_that_names_nothing_says_what_would(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(name)


@pytest.mark.parametrize("name", ["cifar:resnet20", "timm:resnet10t", "torchvision:squeezenet1_1"])
def test_classes_and_answers_follow_the_data(name: str) -> None:
    built = make(name, classes=7)
    assert built.name == name
    assert built.model.training
    with torch.no_grad():
        assert built.model.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", ["cifar:resnet20", "timm:resnet10t", "torchvision:resnet18"])
def test_the_seed_decides_the_initial_weights(name: str) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(next(make(name).model.parameters()).detach())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "cifar:resnet20",
            {"shortcutt": "pad"},
            r'student: unknown option "shortcutt". Did you mean "shortcut"',
        ),
        ("cifar:resnet20", {"shortcut": "padd"}, 'ValueError: shortcut must be "pad" or "conv"'),
        ("cifar:resnet20", {"width": "wide"}, r"student\.width: must be a number"),
        ("cifar:resnet20", {"num_classes": 0}, "num_classes must be at least 1"),
        ("timm:resnet10t", {"drop_rat": 0.1}, 'unknown option "drop_rat". Did you mean "drop_rate"'),
        ("timm:resnet10t", {"drop_rate": "high"}, r"student\.drop_rate: must be a number"),
        ("timm:resnet10t", {"checkpoint_path": "x"}, r"student\.checkpoint_path: .* use `weights:`"),
        ("timm:resnet10t.nope", {}, "Invalid pretrained tag"),
        ("torchvision:resnet18", {"norm_laye": 1}, 'unknown option "norm_laye". Did you mean "norm_layer"'),
        ("torchvision:resnet18", {"weights": "DEFAULT"}, r"student\.weights: .* use `pretrained: true`"),
        ("torchvision:resnet18", {"num_classes": "ten"}, "torchvision:resnet18 with .* failed"),
        ("run:x", {"width": 3}, 'unknown option "width"'),
    ],
)
def test_options_are_checked_against_the_constructor(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(name, options)


# cifar:


def test_cifar_networks_know_their_statistics() -> None:
    assert make("cifar:resnet20").input == InputSpec(IMAGENET_MEAN, IMAGENET_STD, None, 3)
    grey = make("cifar:resnet20", channels=1)
    assert grey.input == InputSpec((0.449,), (0.226,), None, 1)
    assert make("cifar:resnet20", {"in_channels": 3}, channels=1).input.channels == 3


def test_pretrained_weights_that_nobody_offers_are_refused() -> None:
    with pytest.raises(InputError, match=r"student\.pretrained: there are none"):
        make("cifar:resnet20", pretrained=True)


# timm:


def test_timm_networks_know_their_statistics_and_keep_the_size_of_the_data() -> None:
    assert make("timm:resnet10t").input.size is None
    vit = make("timm:test_vit")
    assert vit.input == InputSpec((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 160, 3)
    assert make("timm:test_vit", {"img_size": 32}).input.size == 32
    with pytest.raises(InputError, match=r"student\.img_size: must be a square"):
        make("timm:test_vit", {"img_size": [32, 64]})


def test_timm_networks_take_grey_images() -> None:
    built = make("timm:resnet10t", channels=1)
    assert built.input.channels == 1
    assert built.input.mean is not None
    assert len(built.input.mean) == 1
    with torch.no_grad():
        assert built.model.eval()(torch.rand(2, 1, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize("prefix", ["timm", "torchvision"])
def test_a_download_that_fails_says_what_to_do(
    prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    if prefix == "timm":
        monkeypatch.setattr("timm.models._builder.load_pretrained", offline)
    else:
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        WorkError, match=r"no route to host.*Check the connection, or name a file by `weights:`"
    ):
        make(f"{prefix}:resnet18", pretrained=True)


# torchvision:


def test_torchvision_networks_are_colour_networks() -> None:
    spec = InputSpec(IMAGENET_MEAN, IMAGENET_STD, None, 3)
    assert make("torchvision:squeezenet1_1", channels=1).input == spec


def test_networks_with_helpers_in_training_answer_with_one_tensor() -> None:
    built = make("torchvision:googlenet", classes=3)
    assert isinstance(built.model.train()(torch.rand(2, 3, 64, 64)), Tensor)


def test_downloaded_weights_replace_all_but_a_classifier_of_other_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offered = make("torchvision:resnet18", {"num_classes": 1000}).model.state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: dict(offered))
    built = make("torchvision:resnet18", classes=5, pretrained=True)
    own = built.model.state_dict()
    assert built.input.size == 224
    assert own["fc.weight"].shape == (5, 512)
    assert all(torch.equal(own[key], offered[key]) for key in own if not key.startswith("fc."))
    whole = make("torchvision:resnet18", classes=1000, pretrained=True).model.state_dict()
    assert torch.equal(whole["fc.weight"], offered["fc.weight"])
    offered["layer1.0.conv1.weight"] = torch.zeros(3)
    for classes in (5, 1000):
        with pytest.raises(InputError, match=r"do not fit these options; other shape: .*layer1\.0\.conv1"):
            make("torchvision:resnet18", classes=classes, pretrained=True)


# py:


def test_a_factory_beside_the_recipe_gets_classes_channels_and_options(
    module: Callable[[str], Path],
) -> None:
    beside, path = module(NET), list(sys.path)
    built = make("py:my_nets:net", {"width": 6}, classes=3, channels=1, beside=beside)
    assert built.model(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert built.input == InputSpec()
    assert sys.path == path


def test_another_recipes_file_of_the_same_name_is_another_module(
    tmp_path: Path, module: Callable[..., Path]
) -> None:
    first = module(NET, "one")
    second = module(NET.replace("width=4", "width=9"), "two")
    sizes = [parameters(make("py:my_nets:net", beside=b).model) for b in (first, second, first)]
    assert sizes[0] == sizes[2] != sizes[1]


def test_a_class_inside_a_package_and_its_input_spec(tmp_path: Path) -> None:
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(
        "from torch import nn\n"
        "class Nets:\n"
        "    class Net(nn.Linear):\n"
        "        input_spec = {'mean': [0.5], 'std': [0.5], 'size': 16}\n"
        "        def __init__(self, classes: int, size: tuple[int, int]):\n"
        "            super().__init__(size[0], classes)\n"
    )
    built = make("py:my_package.nets:Nets.Net", classes=4, beside=tmp_path)
    assert built.input == InputSpec((0.5,), (0.5,), 16)
    assert built.model.weight.shape == (4, 32)


def test_our_own_small_networks_are_found_by_their_module() -> None:
    built = make("py:limbeck.students.small:mlp", {"width": 8}, classes=3, channels=1)
    assert parameters(built.model) == 32 * 32 * 8 + 8 + 8 * 3 + 3


@pytest.mark.parametrize(
    ("text", "name", "options", "message"),
    [
        (NET, "nett", {}, 'unknown factory "nett". Did you mean "net"'),
        (NET, "nn", {}, "is module, not a function"),
        (NET, "net", {"width": "a"}, r"student\.width: must be a number"),
        ("def net(widht=3): pass", "net", {"width": 3}, 'unknown option "width". Did you mean "widht"'),
        ("def net(depth): pass", "net", {}, "py:my_nets:net requires depth"),
        ("def net(): return 3", "net", {}, "must return torch.nn.Module, returned int"),
        (
            "def net(): raise KeyError('oh')",
            "net",
            {},
            r"py:my_nets:net\(no options\) failed: KeyError: 'oh'",
        ),
        ("import torch\n1 / 0", "net", {}, r"failed: ZeroDivisionError: .*my_nets\.py, line 2"),
        ("import not_installed_at_all", "net", {}, r"ModuleNotFoundError: .*my_nets\.py, line 1"),
        ("def net(:", "net", {}, "failed: SyntaxError"),
    ],
)
def test_a_factory_that_cannot_work_is_named(
    module: Callable[[str], Path], text: str, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(f"py:my_nets:{name}", options, beside=module(text))


def test_a_factory_may_offer_pretrained_weights(module: Callable[[str], Path]) -> None:
    beside = module(
        "from torch import nn\ndef net(pretrained=False): return nn.Linear(1, 2 if pretrained else 1)"
    )
    assert parameters(make("py:my_nets:net", beside=beside, pretrained=True).model) == 4


# run:


def _run_folder(folder: Path, student: str = "{model: 'cifar:resnet20', width: 4}") -> Path:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(
        "name: one\nteacher: null\n"
        f"student: {student}\n"
        "data: {source: digits, batch_size: 32}\n"
        "objective: {cross_entropy: 1}\n"
        "train: {epochs: 1, optimizer: {name: sgd, lr: 0.1}}\n"
    )
    torch.manual_seed(5)
    net = make("cifar:resnet20", {"width": 4}, classes=6, channels=1).model
    weights.save(net, folder / "student.safetensors", notes(classes=6, channels=1, size=(8, 8)))
    return folder


def test_a_finished_run_gives_its_student_with_its_weights(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "one")
    built = make("run:one", beside=tmp_path)
    assert make(f"run:{folder}").name == f"run:{folder}"
    assert built.input == InputSpec((0.449,), (0.226,), None, 1)
    saved = weights.read(folder / "student.safetensors")
    assert all(torch.equal(saved[key], value) for key, value in built.model.state_dict().items())
    assert built.model.eval()(torch.rand(1, 1, 8, 8)).shape == (1, 6)


def test_the_input_of_the_runs_recipe_holds(tmp_path: Path) -> None:
    _run_folder(tmp_path / "one", "{model: 'cifar:resnet20', width: 4, input: {mean: [0.5], size: 16}}")
    assert make("run:one", beside=tmp_path).input == InputSpec((0.5,), (0.226,), 16, 1)


def test_a_network_of_other_channels_than_the_runs_data_is_built_again(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "one", "{model: 'cifar:resnet20', width: 4, input: {channels: 3}}")
    net = make("cifar:resnet20", {"width": 4}, classes=6, channels=3).model
    weights.save(net, folder / "student.safetensors", notes(classes=6, channels=1, size=(8, 8)))
    built = make("run:one", beside=tmp_path)
    assert built.input.channels == 3
    assert built.model.eval()(torch.rand(1, 3, 8, 8)).shape == (1, 6)


def test_an_unfinished_run_and_options_for_a_run_are_refused(tmp_path: Path) -> None:
    folder = _run_folder(tmp_path / "one")
    with pytest.raises(InputError, match=r'a finished run has none.*unknown option "width"'):
        make("run:one", {"width": 3}, beside=tmp_path)
    (folder / "student.safetensors").unlink()
    with pytest.raises(InputError, match=r"is no finished run: it holds no student\.safetensors"):
        make("run:one", beside=tmp_path)


def test_a_run_that_takes_its_student_from_itself_ends(tmp_path: Path) -> None:
    _run_folder(tmp_path / "one", f"{{model: 'run:{tmp_path / 'one'}'}}")
    with pytest.raises(InputError, match="takes its student from itself"):
        make("run:one", beside=tmp_path)


# Figures


def test_multiply_adds_of_a_convolution_and_a_linear_layer() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 16, 5))
    assert multiply_adds(net, torch.rand(1, 3, 4, 4)) == 3 * 8 * 9 * 16 + 8 * 16 * 5
    assert multiply_adds(nn.ReLU(), torch.rand(1, 3)) is None


def test_multiply_adds_change_neither_mode_nor_statistics() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    multiply_adds(net, torch.rand(2, 3, 4, 4))
    assert net.training
    assert net[0].training
    assert not net[1].training
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_resnet20_takes_41_million_multiply_adds() -> None:
    net = make("cifar:resnet20").model
    count = multiply_adds(net, torch.rand(1, 3, 32, 32))
    assert count is not None
    assert count / 1e6 == pytest.approx(40.55, abs=0.01)


def test_shared_parameters_count_once_and_buffers_not_at_all() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3, affine=False))
    net[1].weight = net[0].weight
    assert parameters(net) == 9 + 3 + 3


def test_the_head_is_the_linear_layer_that_answers() -> None:
    net = make("cifar:resnet20").model
    found = classifier(watch(Tapped(net), Batch(torch.rand(2, 3, 32, 32))))
    assert found is not None
    assert found.module is net.get_submodule("linear")
    assert classifier(watch(Tapped(nn.Conv2d(3, 1, 1)), Batch(torch.rand(2, 3, 8, 8)))) is None


@pytest.mark.parametrize("classes", [1000, 7])
@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_published_weights_are_taken_from_a_local_folder(
    name: str, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a machine without a network can use them by name; another number of classes leaves the head."""
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    (tmp_path / "weights").mkdir()

    def made(count: int, pretrained: bool) -> nn.Module:
        torch.manual_seed(count + pretrained)
        return build(
            name, classes=count, channels=3, size=(64, 64), options={}, where="student", pretrained=pretrained
        ).model

    source = made(1000, False)
    weights.save(source, tmp_path / f"weights/{name.partition(':')[2]}.safetensors")
    found = made(classes, True).state_dict()
    expected = source.state_dict()
    same = (
        [key for key, value in found.items() if torch.equal(value, expected[key])]
        if classes == 1000
        else [
            key
            for key, value in found.items()
            if value.shape == expected[key].shape and torch.equal(value, expected[key])
        ]
    )
    others = set(found) - set(same)
    assert others == set() if classes == 1000 else 1 <= len(others) <= 2
