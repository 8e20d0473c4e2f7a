"""Which weights of a training the figures are of, and its further figures: for the page of a run."""

from collections.abc import Mapping
from typing import Any

from limbeck.report import words
from limbeck.report.record import Record
from limbeck.report.render import Table
from limbeck.report.values import mapping, mean, number

__all__ = ["averaging", "choices", "further", "short", "taken"]

NAMES = {"last": "Last epoch", "best": "Best epoch", "average": "Mean of the best epochs"}


def _train(record: Record) -> Mapping[str, Any]:
    return mapping(record.settings.get("train"))


def taken(record: Record) -> str:
    """What the verdict takes, to end a sentence."""
    chosen = mapping(_train(record).get("checkpoint"))
    watched = str(chosen.get("watch") or "accuracy")
    take = chosen.get("take")
    if take == "best":
        return f"the epoch with the best {watched} on the validation part"
    if take == "average":
        return f"the mean weights of the epochs with the best {watched} on the validation part"
    return "the last epoch"


def short(record: Record) -> str:
    """The same as the head of a column."""
    take = mapping(_train(record).get("checkpoint")).get("take")
    return {"best": "epoch chosen", "average": "mean of epochs"}.get(str(take), "last epoch")


def averaging(record: Record) -> str:
    """A sentence on the moving average of the weights, where the run has one."""
    ema = mapping(_train(record).get("ema"))
    decay = number(ema.get("decay"))
    if decay is None:
        return ""
    return f"All figures are of a moving average of the weights over the steps (decay {decay:g})."


def choices(record: Record) -> Table:
    """The weights that could be taken, with their figures: empty where nothing was chosen."""
    rows = []
    for key in ("control", "student"):
        row = record.rows.get(key)
        for name, title in NAMES.items():
            found = [mapping(entry.get(name)) for entry in row.checkpoints] if row is not None else []
            values = tuple(number(entry.get("accuracy")) for entry in found)
            if mean(values) is None:
                continue
            held_out = tuple(number(entry.get("validation")) for entry in found)
            rows.append(
                (
                    f"{'Control' if key == 'control' else 'Student'}: {title.lower()}",
                    words.score(values, "accuracy"),
                    words.score(held_out, "accuracy"),
                )
            )
    return Table(("", "Accuracy on the test set", "on the validation part"), tuple(rows))


def further(record: Record) -> Table:
    """Further figures of teacher, control and student."""
    rows = [record.rows[key] for key in ("teacher", "control", "student") if key in record.rows]
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    cells = ((row.label, *(words.score(row.metrics.get(name, ()), name) for name in names)) for row in rows)
    return Table(("", *names), tuple(cells) if names else ())
