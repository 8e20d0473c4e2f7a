"""From a template and its values to one file on the disk."""

from dataclasses import dataclass
from pathlib import Path

from limbeck import files

__all__ = ["Table", "render", "store"]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts; the first column names the row, and empty columns are left out."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def filled(self) -> "Table":
        """Without the columns in which no row says anything."""
        keep = [i for i in range(len(self.columns)) if i == 0 or any(row[i] for row in self.rows)]
        return Table(
            tuple(self.columns[i] for i in keep), tuple(tuple(row[i] for i in keep) for row in self.rows)
        )


def render(template: str, **values: object) -> str:
    """The page as a string. Everything that is not a drawing of ours is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def store(text: str, out: Path) -> Path:
    """Writes the file as a whole or not at all, and gives its path.

    Raises:
        WorkError: it cannot be written; a page that stood there before is untouched.
    """
    with files.draft(out) as part:
        part.write_text(text, encoding="utf-8", errors="replace")
    return out
