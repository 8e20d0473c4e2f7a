"""The pages agree with the code: generated parts, links, lists of keys, commands and files."""

import importlib.util
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pages import ROOT, all_pages, blocks

import limbeck
from limbeck import data, methods, models
from limbeck.models.base import PREFIXES
from limbeck.recipe import schema
from limbeck.runfolder import FREE

MARKDOWN = [*all_pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate() -> Any:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(generate: Any) -> None:
    stale = [page.name for page, text in generate.pages().items() if page.read_text(encoding="utf-8") != text]
    assert not stale, f"run: python docs/generate.py (stale: {', '.join(stale)})"


def test_a_stale_part_is_noticed(generate: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- generated: keys -->\nold\n<!-- end -->\nafter\n")
    filled = generate.filled(page, {"keys": lambda: "new"})
    assert filled == "before\n<!-- generated: keys -->\n\nnew\n\n<!-- end -->\nafter\n"
    with pytest.raises(ValueError, match="no place for: other"):
        generate.filled(page, {"keys": lambda: "new", "other": lambda: ""})


def test_every_method_has_its_section() -> None:
    headings = re.findall(r"^## (.+)$", read("docs/methods.md"), re.MULTILINE)
    assert headings == methods.names()


def test_every_key_of_a_recipe_is_on_the_page() -> None:
    page = read("docs/recipe.md")
    whole = schema()
    forms = [form for part in [whole, *whole["$defs"].values()] for form in [part, *part.get("anyOf", ())]]
    keys = {key for form in forms for key in form.get("properties", ())}
    assert len(keys) > 30
    assert [key for key in sorted(keys) if f"| `{key}` |" not in page] == []


def test_every_command_has_its_section(generate: Any) -> None:
    page = read("docs/commands.md")
    sections = set(re.findall(r"^## (.+)$", page, re.MULTILINE)) - {"Later"}
    ready = {
        name.removeprefix("command ") for name in generate.command_parts() if name.startswith("command ")
    }
    assert sections == ready


def test_every_source_of_data_is_on_the_page() -> None:
    page = read("docs/data.md")
    assert [name for name in data.names() if f"`{name}`" not in page] == []


def test_every_key_of_views_is_on_the_page() -> None:
    page = read("docs/data.md")
    keys = {field.name for kind in (data.TensorViews, data.ImageViews) for field in fields(kind)}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


def test_every_prefix_of_models_is_on_the_page() -> None:
    page = read("docs/models.md")
    assert models.build is not None
    assert [prefix for prefix in PREFIXES if f"| `{prefix}:" not in page] == []


def test_keys_that_may_differ_on_resuming_are_on_the_page() -> None:
    page = read("docs/resume.md")
    assert [".".join(key) for key in FREE if f"`{'.'.join(key)}`" not in page] == []


def test_public_names_are_shown_or_told() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in all_pages())
    names = [name for name in limbeck.__all__ if not name.startswith("_")]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def test_the_map_of_the_code_equals_the_folder() -> None:
    """The tree in docs/architecture.md names every module and folder of the package, and no other."""
    tree = next(block.text for block in blocks(ROOT / "docs/architecture.md") if "src/limbeck/" in block.text)
    named = set(re.findall(r"^  ([\w./]+)", tree, re.MULTILINE))
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "src/limbeck").iterdir()
        if path.suffix in (".py", ".yaml") or (path.is_dir() and (path / "__init__.py").exists())
    }
    assert named == there


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    broken = []
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, part = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (part and part not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """The addresses of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }


def test_a_page_for_every_line_of_the_index() -> None:
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", read("docs/index.md")))
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
