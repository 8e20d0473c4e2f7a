"""What the built site shows beside the pages in `docs/`: files that lie elsewhere in the repository.

CONTRIBUTING, the changelog and the license become pages, and so does every file in `recipes/`. Links to
these files in the repository lead to their pages on the site; any other link out of `docs/` is broken there,
and a strict build says so. In `mkdocs.yml`, `recipes/*` stands for all pages of `recipes/`.

MkDocs calls the functions whose names begin with `on_`.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from pymdownx.slugs import slugify

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md", "LICENSE": "license.md"}
LANGUAGES = {".yaml": "yaml", ".py": "python"}
LISTS = ("reference.md", "functions.md", "changelog.md")
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#]+)(?P<part>#[^)\s]*)?(?=\))")
COMMENT = re.compile(r"^<!-- .*? -->\n?", re.MULTILINE)


def shown() -> dict[str, str]:
    """Files of the repository outside `docs/` that are pages of the site, and the pages' names."""
    recipes = sorted(file for file in (ROOT / "recipes").iterdir() if file.suffix in LANGUAGES)
    return PAGES | {f"recipes/{file.name}": f"recipes/{title(file.name)}.md" for file in recipes}


def title(name: str) -> str:
    """What a file is called on the site: a recipe without its ending, anything else by its name."""
    return name.removesuffix(".yaml")


def on_config(config: Any) -> Any:
    """Anchors as the repository's host makes them; `recipes/*` in the navigation is all of that folder."""
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    recipes = [page for page in shown().values() if page.startswith("recipes/")]
    for part in config.nav:
        for name, inside in part.items():
            if inside == "recipes/*":
                part[name] = [{page.removeprefix("recipes/").removesuffix(".md"): page} for page in recipes]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages of files that lie outside `docs/`."""
    for source, page in shown().items():
        files.append(File.generated(config, page, content=text(source)))
    return files


def text(source: str) -> str:
    """A file of the repository as a page: Markdown as it is, with its links seen from `docs/`."""
    content = (ROOT / source).read_text(encoding="utf-8")
    if source.endswith(".md"):
        return LINK.sub(lambda link: from_docs(link, source), content)
    name = Path(source).name
    language = LANGUAGES.get(Path(source).suffix, "text")
    return f"# {title(name)}\n\n`{source}` in the repository.\n\n```{language}\n{content.rstrip()}\n```\n"


def from_docs(link: re.Match[str], source: str) -> str:
    """A link of a file outside `docs/`, as a page in `docs/` would write it."""
    if "://" in link["target"]:
        return link[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link["target"]))
    return posixpath.relpath(target, "docs") + (link["part"] or "")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Leads links to their pages, and leaves out comments, which are for the tests and for generate.py.

    In a search, the pages that tell come before those that list.
    """
    if page.file.src_uri in LISTS:
        page.meta["search"] = {"boost": 0.5}
    places = {f"../{source}": name for source, name in shown().items()}

    def lead(link: re.Match[str]) -> str:
        name = places.get(link["target"])
        return name + (link["part"] or "") if name else link[0]

    return COMMENT.sub("", LINK.sub(lead, markdown))
