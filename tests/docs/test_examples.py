"""Every example of README and pages runs.

Python blocks of a page share one namespace and run in order; commands run in the same folder, in this
process; shown output must be what comes out (`…` stands for anything); whole recipes must load, and parts of
a recipe must fit into one; JSON must have the keys that it really has.
"""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, Block, all_pages, blocks

from limbeck.cli import main
from limbeck.reading import read_yaml
from limbeck.recipe import Recipe

LANGUAGES = {"", "text", "python", "yaml", "console", "json"}
WITH_RECIPE = ("check", "compare", "distill")
BASE: dict[str, Any] = {
    "name": "example",
    "teacher": {"model": "cifar:resnet20", "train": {}},
    "student": {"model": "cifar:resnet20"},
    "data": {"source": "cifar10"},
    "objective": {"cross_entropy": 1.0},
    "train": {"epochs": 8},
    "control": False,
}
"""What a part of a recipe is laid over."""


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: page.stem)
def test_the_examples_of_a_page_run(page: Path, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = Scene(place, capfd)
    found = list(blocks(page))
    for block in found:
        assert block.language in LANGUAGES, f"{block.place}: a block of {block.language} is not tested"
        if "file" in block.marks:
            (place / block.marks["file"]).write_text(block.text, encoding="utf-8")
    for block in found:
        scene.play(block)
    for result in place.glob("runs/*/result.json"):
        compare_folder(result.parent)


def compare_folder(run: Path) -> None:
    """What lies in a finished run folder must be what README and docs/resume.md say."""
    there = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    for page in (ROOT / "README.md", ROOT / "docs" / "resume.md"):
        tree = next(block.text for block in blocks(page) if block.text.startswith("runs/"))
        named = set(re.findall(r"^  ([\w.]+)", tree, re.MULTILINE))
        if not (run / "student.onnx").exists():  # a recipe may ask for no exports
            named = {name for name in named if not name.endswith(".onnx")}
        if "variants" in json.loads((run / "result.json").read_text()):  # a comparison has many students
            named -= {"student.safetensors"}
        assert named == there, f"{page.name}: names {sorted(named)}, there are {sorted(there)}"


class Scene:
    """One page's examples, one after the other."""

    def __init__(self, place: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self.capfd = capfd
        self.names: dict[str, Any] = {"__name__": "example"}
        self.output = ""

    def play(self, block: Block) -> None:
        if "example" in block.marks:
            return
        if block.language == "python":
            self.python(block)
        elif block.language == "yaml":
            recipe(block, self.place)
        elif block.language == "console":
            self.console(block)
        elif block.language == "json":
            keys_agree(json.loads(block.text), json.loads(self.output), block.place)

    def python(self, block: Block) -> None:
        # The empty lines before make a traceback show the line of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec", dont_inherit=True)
        exec(code, self.names)

    def console(self, block: Block) -> None:
        shown: list[str] = []
        for line in block.text.splitlines():
            if line.startswith("$ "):
                self.compare(shown, block)
                shown = []
                self.command(shlex.split(line[2:]), block)
            else:
                shown.append(line)
        self.compare(shown, block)

    def command(self, words: list[str], block: Block) -> None:
        assert words[0] == "limbeck", f"{block.place}: only limbeck itself can be run, not {words[0]}"
        quick = block.marks.get("test", "").split() if words[1] in WITH_RECIPE else []
        self.capfd.readouterr()
        code = main([*words[1:3], *quick, *words[3:]])
        self.output, messages = self.capfd.readouterr()
        assert code == 0, f"{block.place}: {shlex.join(words)} ended with {code}: {messages}"

    def compare(self, shown: list[str], block: Block) -> None:
        """The lines that the page shows against what came out."""
        if not shown:
            return
        pieces = [".*" if line.strip() == "…" else like(line) for line in shown]
        came = "\n".join(" ".join(line.split()) for line in self.output.splitlines())
        wanted = r"\s*" + r"\s*".join(pieces) + r"\s*"
        assert re.fullmatch(wanted, came, re.DOTALL), f"{block.place}: other output came:\n{self.output}"


def like(line: str) -> str:
    """A pattern for one line; `…` stands for anything, spaces for any number of them."""
    return r"[^\n]*".join(re.escape(" ".join(part.split())) for part in line.split("…"))


def recipe(block: Block, place: Path) -> None:
    """A whole recipe must load; a part must fit into one."""
    given = read_yaml(block.text, block.place)
    assert isinstance(given, dict), f"{block.place}: not a mapping"
    whole = given if "name" in given else {**BASE, **given}
    scheme = given.get("scheme", {})
    if whole is not given and isinstance(scheme, dict) and scheme.get("name") in ("online", "own"):
        terms = given.get("objective", {"cross_entropy": 1.0, "kd": 1.0})
        whole = {**whole, "teacher": None, "objective": terms}
    Recipe.from_dict(whole, place / "recipe.yaml")


def keys_agree(told: Any, real: Any, place: str) -> None:
    """The same keys at every level; values of the page are words about them."""
    if isinstance(told, dict):
        assert isinstance(real, dict), f"{place}: there is no mapping"
        assert set(told) == set(real), f"{place}: keys differ: {sorted(set(told) ^ set(real))}"
        for key, value in told.items():
            keys_agree(value, real[key], f"{place}, {key}")
    elif isinstance(told, list):
        assert isinstance(real, list), f"{place}: there is no list"
        assert real, f"{place}: the list is empty"
        keys_agree(told[0], real[0], place)


def test_shown_output_must_be_what_comes_out() -> None:
    assert re.fullmatch(like("data … digits: 1437 samples"), "data source digits: 1437 samples")
    assert not re.fullmatch(like("data … digits: 1437 samples"), "data source digits: 1438 samples")


def test_a_key_that_is_not_there_is_noticed() -> None:
    keys_agree({"a": [{"b": "text"}]}, {"a": [{"b": 1}, {"b": 2}]}, "here")
    with pytest.raises(AssertionError, match="keys differ"):
        keys_agree({"a": [{"b": "text"}]}, {"a": [{"b": 1, "c": 2}]}, "here")
