"""From a template and its values to one file on the disk."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import WorkError

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
    temporary: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
        temporary.chmod(0o644)
        temporary.replace(out)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise WorkError(f"{out}: the report cannot be written ({error.strerror or error}).") from None
    return out
