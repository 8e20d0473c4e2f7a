"""A user's object is found beside the recipe first, and never instead of a module that others rely on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from limbeck import importing
from limbeck.errors import InputError
from limbeck.importing import find_callable, find_object


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to write modules into; all that was imported from it is forgotten afterwards."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
            importing._from_folders.pop(name, None)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path.parent


def test_names_may_have_dots_and_modules_may_be_packages(folder: Path) -> None:
    write(folder / "zz_pack/deep/one.py", "class Outer:\n    class Inner:\n        value = 3\n")
    assert find_object("zz_pack.deep.one:Outer.Inner", beside=folder, where="x").value == 3


def test_the_search_path_is_left_as_it_was(folder: Path) -> None:
    write(folder / "zz_mine.py", "value = 1")
    before = list(sys.path)
    find_object("zz_mine:value", beside=folder, where="x")
    with pytest.raises(InputError):
        find_object("zz_yours:value", beside=folder, where="x")
    assert sys.path == before


def test_the_current_folder_is_searched_after_the_recipes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "here/zz_both.py", "value = 'here'")
    write(folder / "here/zz_only.py", "value = 'here'")
    write(folder / "recipe/zz_both.py", "value = 'recipe'")
    monkeypatch.chdir(folder / "here")
    beside = folder / "recipe"
    assert find_object("zz_both:value", beside=beside, where="x") == "recipe"
    assert find_object("zz_only:value", beside=beside, where="x") == "here"
    assert find_object("zz_only:value", beside=None, where="x") == "here"


@pytest.mark.parametrize("file", ["zz_twin.py", "zz_twin/__init__.py", "zz_twin/sub.py"])
def test_each_recipe_gets_its_own_module_of_a_name(folder: Path, file: str) -> None:
    name = "zz_twin.sub" if file.endswith("sub.py") else "zz_twin"
    for home in ("one", "two"):
        write(folder / home / file, f"value = '{home}'")
    found = [find_object(f"{name}:value", beside=folder / home, where="x") for home in ("one", "two", "one")]
    assert found == ["one", "two", "one"]


def test_asking_twice_imports_once(folder: Path) -> None:
    write(folder / "zz_once.py", "class Thing: pass")
    first, again = (find_object("zz_once:Thing", beside=folder, where="x") for _ in range(2))
    assert first is again


@pytest.mark.parametrize("name", ["json", "limbeck", "torch"])
def test_a_module_that_others_rely_on_is_not_replaced(folder: Path, name: str) -> None:
    write(folder / f"{name}.py", "value = 1")
    loaded = sys.modules[name]
    with pytest.raises(InputError, match=rf'x: "{name}" lies in .*give the file another name'):
        find_object(f"{name}:value", beside=folder, where="x")
    assert sys.modules[name] is loaded


def test_a_plain_folder_does_not_hide_an_installed_package(folder: Path) -> None:
    """Data that were downloaded to `torch/` beside the recipe, say."""
    write(folder / "torch" / "data.bin", "")
    write(folder / "json" / "decoder.py", "")
    assert find_callable("torch.nn:Linear", beside=folder, where="x").__name__ == "Linear"
    assert find_callable("json.decoder:JSONDecoder", beside=folder, where="x").__name__ == "JSONDecoder"


@pytest.mark.parametrize(
    "text", ["", ":", "a", "a:", ":b", "a.:b", "a-b:c", "a:b.", "a:b:c", "../a:b", "a b:c"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r'x: must be "py:package\.module:factory", got "py:'):
        find_callable(text, beside=None, where="x")


def test_an_unknown_name_lists_what_fits(folder: Path) -> None:
    write(folder / "zz_names.py", "import json\nnumber = 1\n_hidden = len\ndef factory(): pass\n")
    with pytest.raises(InputError) as caught:
        find_callable("zz_names:factry", beside=folder, where="x")
    place = f"x: {folder.resolve() / 'zz_names.py'}"
    message = 'unknown factory "factry". Did you mean "factory"? Allowed: factory.'
    assert str(caught.value) == f"{place}: {message}"
    with pytest.raises(InputError, match="x: py:zz_names:number is int, not a function or a class"):
        find_callable("zz_names:number", beside=folder, where="x")


def test_a_missing_module_says_where_it_was_looked_for(folder: Path) -> None:
    write(folder / "zz_networks.py", "")
    with pytest.raises(
        InputError, match=r'x: no module "zz_network"\. Looked in .*Did you mean "zz_networks"'
    ):
        find_object("zz_network:f", beside=folder, where="x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import zz_not_there", r"failed: ModuleNotFoundError: .*zz_bad\.py, line 1"),
        ("\n1 / 0", r"failed: ZeroDivisionError: .*zz_bad\.py, line 2"),
        ("import sys\nsys.exit(0)", r"failed: SystemExit: 0 .*zz_bad\.py, line 2"),
        ("def f(:", r"failed: SyntaxError: .*zz_bad\.py, line 1"),
        ("raise KeyError", r"failed: KeyError .*zz_bad\.py, line 1"),
    ],
)
def test_a_module_that_fails_says_in_which_line(folder: Path, text: str, message: str) -> None:
    write(folder / "zz_bad.py", text)
    with pytest.raises(InputError, match=message):
        find_object("zz_bad:f", beside=folder, where="x")
    assert "zz_bad" not in sys.modules
