"""`limbeck check` and `limbeck init`: what can be wrong, each told in one message with exit code 2."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from limbeck.students.small import convnet

NETWORKS = """
import torch
from torch import nn

print("a module that prints while it is imported")


def net(num_classes, in_channels=1, width=8):
    print("a factory that prints")
    layers = nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(width, num_classes))


class Reuses(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.never, self.act = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        return self.fc(self.act(self.act(self.conv(x))).mean((2, 3)))


def fails(): return nn.Sequential(nn.Flatten(), nn.Linear(3, 10))
def nothing(): return 3


def never_a_number():
    made = Reuses()
    nn.init.constant_(made.fc.bias, float("nan"))
    return made
"""

SAMPLES = """
import torch


def make(count=64, classes=3, label=None):
    made = torch.Generator().manual_seed(0)
    images, labels = torch.rand(count, 1, 8, 8, generator=made), [i % classes for i in range(count)]
    if label is not None:
        labels[7] = label
    return list(zip(images, labels)), list(zip(images, [i % classes for i in range(count)]))


def fails():
    raise OSError("the disk is gone")
"""


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    """The recipe's folder with a user's own modules, and weights of many kinds for its student."""
    (tmp_path / "nets_of_mine.py").write_text(NETWORKS)
    (tmp_path / "data_of_mine.py").write_text(SAMPLES)
    state = convnet(width=4).state_dict()
    save_file(state, tmp_path / "fits.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "wrapped.pt")
    torch.save({**state, "linear.weight": torch.zeros(7, 8)}, tmp_path / "shape.pt")
    torch.save(
        {**{k: v for k, v in state.items() if k != "linear.bias"}, "odd": torch.zeros(1)},
        tmp_path / "keys.pt",
    )
    torch.save({"state_dict": state, "extra": Path("x")}, tmp_path / "pickled.pt")
    (tmp_path / "torn.pt").write_bytes((tmp_path / "wrapped.pt").read_bytes()[:300])
    return tmp_path


YAML = {
    "deep": ("a: " + "[" * 50 + "]" * 50, ["line 1", "20 levels"]),
    "self": ("name: &a {x: *a}", ["line 1", "contain itself"]),
    "syntax": ("name: x\n  teacher: [1", ["line 2", "not valid YAML"]),
    "empty": ("", ["it is empty"]),
    "list": ("- a", ["must be a mapping"]),
    "twice": ("name: x\nname: y", ["line 2", '"name" is given twice']),
    "infinite": ("name: x\ntrain: {epochs: .inf}", ["line 2", "finite number"]),
}


@pytest.mark.parametrize("kind", YAML)
def test_a_file_that_is_no_recipe(call, tmp_path: Path, kind: str) -> None:
    text, words = YAML[kind]
    (tmp_path / "r.yaml").write_text(text)
    for command in ("check", "distill"):
        call(command, "r.yaml").refused("r.yaml", *words)


def test_a_missing_file_and_a_folder(call, recipe: Path) -> None:
    call("check", "tinny.yaml").refused("tinny.yaml: no such file", 'Did you mean "tiny.yaml"?')
    call("check", ".").refused("is a folder")


WRONG = [
    ("train.epoch=1", ["train: ", 'unknown key "epoch"', 'Did you mean "epochs"?', "Allowed: accumulate"]),
    ("train.epochs=x", ["train.epochs: must be a whole number", 'given "x"']),
    ("train.optimizer.lr=.inf", ["train.optimizer.lr", "finite"]),
    ("train.optimizer.name=sgdd", ["train.optimizer.name", 'Did you mean "sgd"?']),
    ("train.optimizer.momntum=1", ["train.optimizer", 'Did you mean "momentum"?', "option of sgd"]),
    ("train.schedule.name=cosin", ["train.schedule.name", 'Did you mean "cosine"?']),
    ("train.accumulate=3", ["data.batch_size", "divisible by 6"]),
    ("control.train.optimizer={name: nope, lr: 1}", ["control.train.optimizer.name", '"nope"']),
    ("foo", ['override "foo"', "key.sub=value"]),
    ("name=../x", ["name: ", "letters, digits", '"../x"']),
    ("name=..", ["name"]),
    ("student.model=cifar:resnet21", ['unknown network "resnet21"', "Did you mean", "Allowed: "]),
    ("student.model=cifr:resnet20", ['unknown prefix "cifr"', 'Did you mean "cifar"?']),
    ("student.model=resnet20", ['"resnet20" names no network', "cifar:NAME"]),
    ("student.model=onnx:x.onnx", ["not yet supported"]),
    ("student.model=cifar:../x", ['"../x"']),
    ("student.widht=3", ["student: ", '"widht"', 'Did you mean "width"?']),
    ("student.width=abc", ["student.width", "'abc'"]),
    ("student.width=0", ["at least 1"]),
    ("student.num_classes=7", ["student", "[samples, 10]", "7]"]),
    ("student.classes=auto", ["only a teacher"]),
    ("student.weights=fit.safetensors", ["student.weights", 'Did you mean "fits.safetensors"?']),
    ("student.weights=shape.pt", ["linear.weight", "[7, 8]", "[10, 8]"]),
    ("student.weights=keys.pt", ["missing in the file: linear.bias", "unexpected in the file: odd"]),
    ("student.weights=pickled.pt", ["pickled.pt", "refused", "safetensors"]),
    ("student.weights=torn.pt", ["torn.pt", "not a complete"]),
    ("student={model: 'py:nets_of_mine:nett'}", ['Did you mean "net"?']),
    ("student={model: 'py:nets_of_yours:net'}", ['no module "nets_of_yours"']),
    ("student={model: 'py:nets_of_mine:nothing'}", ["must return torch.nn.Module, returned int"]),
    ("student={model: 'py:nets_of_mine:fails'}", ["RuntimeError", "cannot be multiplied"]),
    ("student={model: 'py:nets_of_mine:never_a_number'}", ['"cross_entropy" became nan']),
    ("objective.kdd=1", ["objective.kdd", 'Did you mean "kd"?']),
    ("objective.kd=1", ["objective.kd", "there is no teacher"]),
    (
        "objective.cross_entropy.label_smoothin=.1",
        ["objective.cross_entropy", 'Did you mean "label_smoothing"?'],
    ),
    ("data.source=digit", ["data.source", 'Did you mean "digits"?']),
    ("data.views.crp=1", ["data.views", 'Did you mean "crop"?']),
    ("data.labels=9999", ["data.labels"]),
    ("data.validation=1.5", ["data.validation", "less than 1"]),
    ("data.source=folder:nowhere", ["no folder", "nowhere"]),
    ("data.source=py:data_of_mine:mak", ['Did you mean "make"?']),
    ("data.source=py:data_of_mine:fails", ["the disk is gone"]),
    ("scheme=data_free", ['scheme "data_free"', "not yet supported"]),
    ("stages=[{epochs: 1}]", ["stages.0.name"]),
    ("metric=f1", ["metric", "accuracy"]),
    ("export.formats=[tflite]", ["export.formats", "onnx", "tflite"]),
]


@pytest.mark.parametrize(("override", "words"), WRONG, ids=[w[0] for w in WRONG])
def test_a_wrong_recipe_gets_one_message(
    call, plain: Path, beside: Path, override: str, words: list[str]
) -> None:
    said = call("check", plain, override)
    if "mine:" in override:  # a user's own module may print; it is not told to stop
        said = type(said)(said.code, "", said.err)
    said.refused(*words)


def test_what_is_wrong_once_is_said_once(call, recipe: Path) -> None:
    said = call("check", recipe, "train.epoch=1")  # the teacher's own train inherits from it
    said.refused("train: unknown key")
    assert "things are wrong" not in said.err


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("{model: 'py:limbeck.students.small:convnet', num_classes: 7}", ["teacher.classes", "7", "10"]),
        ("{model: 'py:limbeck.students.small:convnet', classes: [0, 1], num_classes: 20}", ["2 are named"]),
        ("{model: 'py:limbeck.students.small:convnet', classes: [0, 99], num_classes: 20}", ["99"]),
        ("{model: 'cifar:resnet20'}", ["knows nothing yet", "weights: FILE"]),
        ("{model: 'cifar:resnet20', weights: fits.safetensors}", ["does not fit ResNet", "conv1.weight"]),
    ],
)
def test_a_teacher_that_does_not_fit(
    call, recipe: Path, beside: Path, teacher: str, words: list[str]
) -> None:
    call("check", recipe, f"teacher={teacher}").refused("teacher", *words)


TAPS = [
    ("py:limbeck.students.small:convnet", "stge2", ["student", 'no layer "stge2"', 'Did you mean "stage2"?']),
    ("py:limbeck.students.small:convnet", "stage2:what", ['tap "stage2:what"', "layer3:in"]),
    ("py:nets_of_mine:Reuses", "act", ["student", "runs 2 times", "act@1", "act@2"]),
    ("py:nets_of_mine:Reuses", "act@3", ["wants call 3", "runs 2 times"]),
    ("py:nets_of_mine:Reuses", "never", ["exists but no forward pass reaches it"]),
    ("torchvision:resnet18", "layer1.0.bn1", ["changed in place", '"layer1.0.bn1:copy"']),
    ("torchvision:resnet18", "layer1.0.relu", ["runs 2 times", "layer1.0.relu@1"]),
]


@pytest.mark.parametrize(("model", "tap", "words"), TAPS, ids=[f"{m}-{t}" for m, t, _ in TAPS])
def test_a_tap_that_cannot_be_read(
    call, recipe: Path, beside: Path, model: str, tap: str, words: list[str]
) -> None:
    hint = f"objective.hint={{weight: 1, layers: {{'{tap}': stage2}}}}"
    said = call("check", recipe, f"student={{model: '{model}'}}", hint)
    type(said)(said.code, "", said.err).refused(*words)


def test_a_tap_on_a_copy_works(call, recipe: Path) -> None:
    hint = "objective.hint={weight: 1, layers: {'layer1.0.bn1:copy': stage2}}"
    found = call("check", recipe, "student={model: 'torchvision:resnet18'}", hint, "--json").json
    assert found["terms"]["hint"]["layers"] == {"layer1.0.bn1:copy": "stage2"}
    assert found["terms"]["hint"]["first_value"] > 0


def test_the_teachers_taps_are_checked_too(call, recipe: Path) -> None:
    hint = "objective.hint={weight: 1, layers: {stage2: stage9}}"
    call("check", recipe, hint).refused('teacher: no layer "stage9"', 'Did you mean "stage2"?')


def test_check_says_what_would_happen(call, recipe: Path) -> None:
    said = call("check", recipe, "seeds=2", "data.labels=40")
    assert said.code == 0, said.err
    for words in (
        "2 seeds",
        "256 training samples (40 with a label)",
        "438 parameters",
        "trained first",
        "2 steps",
    ):
        assert words in said.out
    found = call("check", recipe, "data.labels=5", "--json").json
    assert found["student"]["parameters"] == 438
    assert found["steps"] == {"per_epoch": 2, "total": 2}
    assert all(term["first_value"] > 0 for term in found["terms"].values())
    assert found["warnings"] == ["5 labelled training samples for 10 classes"]
    assert not (recipe.parent / "runs").exists()


def test_own_data_and_own_model_beside_the_recipe(call, plain: Path, beside: Path) -> None:
    own = (
        "student={model: 'py:nets_of_mine:net', width: 3}",
        "data={source: 'py:data_of_mine:make', batch_size: 32}",
    )
    said = call("check", plain, *own, "--json")
    found = said.json  # what the factory prints goes elsewhere
    assert "a factory that prints" in said.err
    assert found["data"]["classes"] == 3
    assert found["student"]["parameters"] == 3 * 9 + 3 + 3 * 3 + 3
    call("check", plain, *own, "data.options.label=-5", "--json").refused("sample 7", "label -5", "0 to 2")


def test_folders_of_images(call, plain: Path, tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (12, 12), (80 * number, 9, 9)).save(
                    tmp_path / "pets" / split / name / f"{number}.png"
                )
    images = ("data={source: 'folder:pets', size: 8, batch_size: 6}",)
    assert call("check", plain, *images, "--json").json["data"]["shape"] == [3, 8, 8]
    broken = tmp_path / "pets" / "train" / "dog" / "1.png"
    broken.write_bytes(broken.read_bytes()[:40])
    call("check", plain, *images).refused("dog/1.png", "cannot be read")
    (tmp_path / "pets" / "train" / "eel").mkdir()
    call("check", plain, *images).refused("train/eel", "no images")
    (tmp_path / "hollow").mkdir()
    call("check", plain, "data={source: 'folder:hollow', batch_size: 6}").refused("hollow")


def test_init_writes_what_check_accepts(call, tmp_path: Path) -> None:
    said = call("init", "--teacher", "cifar:resnet20", "--data", "digits", "--out", "r.yaml", "--json")
    assert said.json == {"recipe": "r.yaml"}
    assert call("check", "r.yaml", "--json").json["teacher"]["trained_first"] is True
    call("init", "--teacher", "cifar:resnet20", "--data", "digits", "--out", "r.yaml").refused(
        "exists already"
    )


def test_init_for_a_folder_of_images(call, tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (40, 40), (50 * number, 9, 9)).save(tmp_path / "pets" / name / f"{number}.png")
    assert call("init", "--teacher", "timm:resnet18", "--data", "pets").code == 0
    assert yaml.safe_load(Path("recipe.yaml").read_text())["teacher"]["pretrained"] is True
    # Published weights need a network, so the teacher is taken without them here.
    found = call("check", "recipe.yaml", "teacher.pretrained=false", "data.size=32", "--json").json
    assert found["teacher"]["model"] == "timm:resnet18"


@pytest.mark.data
def test_init_with_weights(call, data_root: Path) -> None:
    weights = "resnet56-4bfd9763.th"
    assert call("init", "--teacher", "cifar:resnet56", "--data", "cifar10", "--weights", weights).code == 0
    found = call("check", "recipe.yaml", "data.samples=200", "data.batch_size=16", "--json").json
    assert found["teacher"]["trained_first"] is False
    assert found["data"]["test"] == 10_000


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--teacher", "resnet", "--data", "digits"], ["--teacher", '"resnet" names no network']),
        (["--teacher", "cifr:resnet20", "--data", "digits"], ["--teacher", 'Did you mean "cifar"?']),
        (["--teacher", "cifar:resnet20", "--data", "digitz"], ["--data", 'Did you mean "digits"?']),
        (
            ["--teacher", "cifar:resnet20", "--data", "digits", "--out", "no/r.yaml"],
            ["no/r.yaml: cannot be written"],
        ),
    ],
)
def test_init_refuses_what_no_recipe_could_use(call, words: list[str], said: list[str]) -> None:
    call("init", *words).refused(*said)
