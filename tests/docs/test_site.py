"""The built site: built strictly, whole, and without a word to any other host."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from pages import ROOT

import limbeck
from limbeck import functional

VOID = {"link", "img", "input", "meta", "br", "hr", "source", "area", "base", "col", "embed", "track", "wbr"}
ASSETS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}


class Page(HTMLParser):
    """What a page links to, loads and holds.

    Attributes:
        links: addresses of its links.
        menu: those among them that stand in the navigation.
        assets: addresses of what a browser fetches to show it.
        names: its anchors.
        paragraphs: the text of each paragraph.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.menu: list[str] = []
        self.assets: list[str] = []
        self.names: set[str] = set()
        self.paragraphs: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.names.add(str(given["id"]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
            if "nav" in self._open:
                self.menu.append(str(given["href"]))
        elif tag in ASSETS and given.get(ASSETS[tag]) and given.get("rel") not in ("prev", "next"):
            self.assets.append(str(given[ASSETS[tag]]))
        if tag == "p":
            self.paragraphs.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if "p" in self._open:
            self.paragraphs[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("site")
    # What this process turns into errors are often warnings inside the builder's own packages.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONWARNINGS"}
    environment["NO_MKDOCS_2_WARNING"] = "1"
    # Not quietly: warnings that are not said do not count as errors either.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    found = {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}
    assert len(found) > 20
    return found


@pytest.fixture(scope="module")
def hooks() -> Any:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_of_the_folder_is_on_the_site(pages: dict[str, Page]) -> None:
    wanted = {f"{page.stem}.html" for page in (ROOT / "docs").glob("*.md")}
    wanted |= {"contributing.html", "changelog.html", "license.html"}
    wanted |= {f"recipes/{recipe.stem}.html" for recipe in (ROOT / "recipes").glob("*.yaml")}
    assert wanted - set(pages) == set()


def test_every_page_is_in_the_navigation(pages: dict[str, Page]) -> None:
    named = {link.partition("#")[0] for link in pages["index.html"].menu}
    assert set(pages) - {"404.html", "index.html"} - named == set()


def test_links_and_assets_are_there(site: Path, pages: dict[str, Page]) -> None:
    missing = []
    for name, page in pages.items():
        for address in [*page.links, *page.assets]:
            target, _, part = unquote(address).partition("#")
            if name == "404.html" or "://" in target or target.startswith(("mailto:", "/", "javascript:")):
                continue
            path = ((site / name).parent / target).resolve() if target else site / name
            file = path / "index.html" if path.is_dir() else path
            inside = pages.get(str(file.relative_to(site.resolve()))) if file.suffix == ".html" else None
            if not file.is_file() or (part and inside and part not in inside.names):
                missing.append(f"{name}: {address}")
    assert missing == []


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    outside = [f"{name}: {a}" for name, page in pages.items() for a in page.assets if is_outside(a)]
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        named = re.findall(r"(?:url\(\s*|@import\s+)[\"']?([^\"')\s;]+)", text)
        outside += [f"{sheet.name}: {address}" for address in named if is_outside(address)]
    assert outside == []


def is_outside(address: str) -> bool:
    return bool(re.match(r"(https?:)?//", address))


def test_what_is_fetched_from_elsewhere_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="https://fonts.example/x.css"><nav><a href="b.html">B</a></nav>'
        '<script src="//cdn.example/x.js"></script><a href="https://example.org">told</a><img src="mark.svg">'
    )
    read = Page(page)
    assert [a for a in read.assets if is_outside(a)] == ["https://fonts.example/x.css", "//cdn.example/x.js"]
    assert read.menu == ["b.html"]


def test_searching_needs_no_server(site: Path, pages: dict[str, Page]) -> None:
    text = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    found = json.loads(text.removeprefix("var __index = "))
    places = {entry["location"].partition("#")[0] or "index.html" for entry in found["docs"]}
    assert set(pages) - {"404.html"} - places == set()
    assert all("look/iframe-worker.js" in str(page.assets) for page in pages.values())


def test_every_public_name_is_described(pages: dict[str, Page]) -> None:
    public = {f"limbeck.{name}" for name in limbeck.__all__} - {"limbeck.__version__", "limbeck.functional"}
    assert public - pages["reference.html"].names == set()
    functions = {name.rpartition(".")[2] for name in pages["functions.html"].names if "methods." in name}
    assert set(functional.__all__) - functions == set()


def test_a_list_is_a_list(pages: dict[str, Page]) -> None:
    """Without an empty line before it, a list is one in the repository and a paragraph here."""
    broken = [f"{name}: {line}" for name, page in pages.items() for line in loose_items(page.paragraphs)]
    assert broken == []


def test_a_list_inside_a_list_is_one() -> None:
    """Four spaces in: with fewer, it is one in the repository and part of the outer list here."""
    sources = [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md"))]
    broken = []
    for page in sources:
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        broken += [
            f"{page.name}: {line}" for line in re.findall(r"^ {1,3}(?:[-*]|\d+\.) .*", text, re.MULTILINE)
        ]
    assert broken == []


def loose_items(paragraphs: list[str]) -> Iterator[str]:
    for paragraph in paragraphs:
        yield from re.findall(r"^(?:[-*] |\d+\. |\|).*", paragraph, re.MULTILINE)


def test_a_list_without_an_empty_line_is_noticed() -> None:
    assert list(loose_items(["It shows:\n- one\n- two", "fine - so"])) == ["- one", "- two"]


def test_links_between_the_repository_and_the_site(hooks: Any, pages: dict[str, Page]) -> None:
    read = re.compile(hooks.LINK.pattern)
    told = "[plan](docs/architecture.md#one) [log](CHANGELOG.md) [far](https://example.org/docs/x)"
    turned = read.sub(lambda link: hooks.from_docs(link, "CONTRIBUTING.md"), told)
    assert turned == "[plan](architecture.md#one) [log](../CHANGELOG.md) [far](https://example.org/docs/x)"
    assert "contributing.html#how-to-add-a-method" in pages["methods.html"].links
    assert "architecture.html" in pages["contributing.html"].links
