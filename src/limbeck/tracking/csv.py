"""Figures by epoch as a CSV file, in the form of Accelerate's trackers, which have none of that kind."""

import csv
from pathlib import Path
from typing import Any

from accelerate.tracking import GeneralTracker

from limbeck.files import draft

__all__ = ["CsvTracker"]


class CsvTracker(GeneralTracker):  # type: ignore[misc]  # Accelerate has no types
    """One row for each logged step; a column for each name that ever came.

    Args:
        file: the file; rows that it has already are kept.
    """

    name = "csv"
    requires_logging_directory = False

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self._rows: list[dict[str, Any]] = []

    def start(self) -> None:
        """Read what is there."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            with self.file.open(newline="", encoding="utf-8") as file:
                self._rows = list(csv.DictReader(file))

    @property
    def tracker(self) -> Path:
        """The file."""
        return self.file

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None:
        """Add a row, in place of one of the same step that a kill left; a new column can come at any time."""
        self._rows = [row for row in self._rows if str(row["step"]) != str(step)]
        self._rows.append({"step": step, **values})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        with draft(self.file) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self._rows)
