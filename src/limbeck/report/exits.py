"""The exits of a student on the page of a run: their files, and what stopping at them brings."""

from limbeck.report import words
from limbeck.report.record import Record
from limbeck.report.render import Table
from limbeck.report.values import listing, mapping, number

__all__ = ["files", "stopping"]

FORMS = {"onnx": "ONNX", "int8": "int8"}


def files(record: Record) -> Table:
    """The file of each exit with its figures; empty where there are none."""
    rows = []
    for name, found in record.exits.items():
        for form, entry in mapping(mapping(found).get("exports")).items():
            told = mapping(entry)
            rows.append(
                (
                    f"{name}, {FORMS.get(form, form)}",
                    words.score((number(told.get("accuracy")),), "accuracy"),
                    words.size(_whole(told.get("bytes"))),
                    words.latency(number(told.get("latency_ms"))),
                    str(told.get("file") or ""),
                )
            )
    return Table(("", "Accuracy", "Stored size", "Latency", "File"), tuple(rows))


def stopping(record: Record) -> Table:
    """Threshold by threshold, the accuracy of the first sure answers and who gave them."""
    found = [mapping(one) for one in listing(record.early_exit)]
    names = list(mapping(found[0].get("shares"))) if found else []
    rows = [
        (
            f"Sure by {number(one.get('threshold')) or 0:g}",
            words.score((number(one.get("accuracy")),), "accuracy"),
            *(words.score((number(mapping(one.get("shares")).get(name)),), "accuracy") for name in names),
        )
        for one in found
    ]
    return Table(("", "Accuracy", *(f"At {name}" for name in names)), tuple(rows))


def _whole(value: object) -> int | None:
    found = number(value)
    return None if found is None else int(found)
