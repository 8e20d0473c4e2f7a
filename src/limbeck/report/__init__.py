"""The page that a person reads after a run: one HTML file that opens offline."""

from limbeck.report.compare import write_many
from limbeck.report.page import write

__all__ = ["write", "write_many"]
