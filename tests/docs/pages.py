"""Reading the fenced blocks of a Markdown page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "all_pages", "blocks"]

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^```(?P<language>\w*)\s*$")
_MARK = re.compile(r"^<!-- (?P<word>file|test|example): (?P<text>.+) -->$")


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: where it stands.
        line: number of its first line, from 1.
        language: the word behind the fence.
        text: what is between the fences.
        marks: what the comments right before the fence say. `file: NAME`, the block is written to that
            file; `test: key=value …`, settings that make its commands quick; `example: WHY`, it cannot run by
            itself.
    """

    page: Path
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}, line {self.line}"


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    marks: dict[str, str] = {}
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    for number, line in lines:
        if fence := _FENCE.match(line):
            inside = []
            for _, text in lines:
                if text.startswith("```"):
                    break
                inside.append(text)
            else:
                raise ValueError(f"{page.name}: the block of line {number} does not end")
            yield Block(page, number + 1, fence["language"], "\n".join(inside) + "\n", marks)
            marks = {}
        elif mark := _MARK.match(line):
            marks[mark["word"]] = mark["text"]
        elif line.strip():
            marks = {}
