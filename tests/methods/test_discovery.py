"""Methods are found by file name, by alias, and as `package.module:Class`; errors say what is wrong."""

import importlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from limbeck import functional, methods
from limbeck.errors import InputError
from limbeck.methods.base import Method
from limbeck.methods.kd import KD

SOURCE = '''"""A method for tests."""
from limbeck.methods.base import Method

class {name}(Method):
    """Nothing."""
    aliases = ("zr",)
    def forward(self, student, teacher, batch):
        return 0 * student.logits.sum()
'''


def write(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text, encoding="utf-8")


@pytest.fixture
def dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose files are methods, as if they lay in the package."""
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("limbeck.methods.") and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
            vars(methods).pop(name.rpartition(".")[2], None)


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a third party's module `limbeck_zero_method`."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    write(tmp_path, "limbeck_zero_method.py", SOURCE.format(name="Zero"))
    yield tmp_path
    sys.modules.pop("limbeck_zero_method", None)


def test_names_are_the_files() -> None:
    assert {"cross_entropy", "kd", "decoupled_kd", "hint"} <= set(methods.names())
    folder = Path(str(methods.__file__)).parent
    files = {f.stem for f in folder.glob("[!_]*.py")} - {"base", "testing"}
    assert methods.names() == sorted(files)


def test_a_file_dropped_in_is_found(dropped: Path) -> None:
    write(dropped, "zero.py", SOURCE.format(name="Zero"))
    write(dropped, "_helper.py", "")
    importlib.invalidate_caches()
    assert "zero" in methods.names()
    assert "_helper" not in methods.names()
    assert methods.get("zero") is methods.get("zr")
    assert methods.file_name(methods.get("zr")) == "zero"


@pytest.mark.parametrize(
    "text", ["", SOURCE.format(name="Zero") + SOURCE.format(name="One")], ids=["none", "two"]
)
def test_a_file_defines_exactly_one_method(dropped: Path, text: str) -> None:
    write(dropped, "zero_odd.py", text)
    importlib.invalidate_caches()
    with pytest.raises(TypeError, match="exactly one Method"):
        methods.get("zero_odd")


@pytest.mark.parametrize("name", methods.names())
def test_every_name_and_alias_leads_to_its_file(name: str) -> None:
    cls = methods.get(name)
    assert methods.file_name(cls) == name
    assert all(methods.get(alias) is cls for alias in cls.aliases)


def test_no_alias_is_used_twice() -> None:
    words = [w for name in methods.names() for w in (name, *methods.get(name).aliases)]
    assert len(words) == len(set(words))


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r'objective: unknown method "decopled_kd"\. Did you mean "decoupled_kd"'
    ):
        methods.get("decopled_kd", where="objective")


def test_third_partys_method_beside_the_recipe(beside: Path) -> None:
    cls = methods.get("limbeck_zero_method:Zero", beside=beside)
    assert methods.file_name(cls) == "limbeck_zero_method:Zero"
    assert methods.options(cls) == {}
    assert str(beside.resolve()) not in sys.path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module_here:Zero", 'no module "no_such_module_here"'),
        ("limbeck_zero_method:Zer", 'Did you mean "Zero"'),
        ("limbeck_zero_method:", "package.module:Class"),
        (":Zero", "package.module:Class"),
        ("pathlib:Path", "not a class derived from limbeck.methods.Method"),
        ("limbeck.methods.base:Method", "not a class derived from limbeck.methods.Method"),
        ("..kd:KD", "package.module:Class"),
    ],
)
def test_third_partys_errors(beside: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        methods.get(name, where="objective.zero", beside=beside)


@pytest.mark.parametrize(("text", "kind"), [("def f(:\n", "SyntaxError"), ("1 / 0\n", "ZeroDivisionError")])
def test_a_broken_module_is_an_input_error(beside: Path, text: str, kind: str) -> None:
    write(beside, "limbeck_broken_method.py", text)
    with pytest.raises(InputError, match=f'importing "limbeck_broken_method" failed: {kind}'):
        methods.get("limbeck_broken_method:Zero", beside=beside)


def test_options_are_the_constructors_arguments() -> None:
    found = methods.options(methods.get("decoupled_kd"))
    assert {k: p.default for k, p in found.items()} == {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}


def test_create_passes_options_on() -> None:
    method = methods.create("kd", {"temperature": 2})
    assert isinstance(method, KD)
    assert method.temperature == 2.0


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "kd",
            {"temprature": 2},
            r'objective.kd: unknown option of kd "temprature"\. Did you mean "temperature"',
        ),
        ("kd", {"temperature": 0}, "objective.kd: kd: temperature must be a finite number > 0, got 0"),
        ("kd", {"temperature": True}, "got True"),
        ("dkd", {"beta": -1}, "beta must be a finite number >= 0, got -1"),
        ("dkd", {"alpha": [1]}, r"alpha must be a finite number >= 0, got \[1\]"),
        ("ce", {"label_smoothing": 1}, "label_smoothing must be a finite number >= 0 and < 1, got 1"),
        ("hint", {"activation": "gelu"}, "activation must be one of auto, relu, none"),
        ("hint", {"normalize": 1}, "normalize must be true or false"),
    ],
)
def test_create_refuses(name: str, values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        methods.create(name, values, where="objective.kd")


def test_create_names_a_missing_option(monkeypatch: pytest.MonkeyPatch) -> None:
    class Needs(Method):
        def __init__(self, layers: int) -> None:
            super().__init__()

        forward = KD.forward

    module = types.ModuleType("limbeck_needs_method")
    module.Needs = Needs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "limbeck_needs_method", module)
    with pytest.raises(InputError, match="needs the option layers"):
        methods.create("limbeck_needs_method:Needs", {})


@pytest.mark.parametrize("name", methods.names())
def test_card_is_json_and_complete(name: str) -> None:
    card = json.loads(json.dumps(methods.card(methods.get(name))))
    assert card["name"] == name
    assert {"aliases", "kind", "paper", "options", "published", "doc", "summary"} <= set(card)
    assert "https://" in card["doc"]
    assert all({"type", "default", "required"} == set(option) for option in card["options"].values())


@pytest.mark.parametrize("name", methods.names())
def test_the_pure_function_is_public_under_the_methods_name(name: str) -> None:
    module = sys.modules[methods.get(name).__module__]
    functions = [f for f in module.__all__ if not isinstance(getattr(module, f), type)]
    assert functions
    for function in functions:
        assert getattr(functional, function) is getattr(module, function)
        assert function in functional.__all__
