"""What every kind of scheme without a teacher brings on a very small task, beside its control.

    python benchmarks/schemes_on_digits.py [--out FOLDER] [--seeds N] [KIND ...]

400 images of `digits`, one pixel of cropping, a convnet of width 8 and depth 3, 30 epochs in batches of 32,
SGD at 0.05 with a cosine; 360 test images. Each kind has the objective and options of its paper; where a ramp
of weights is counted in the paper's epochs it takes the same share of these 30, and `snapshot` restarts its
rate with each cycle. One thread; a run that is there already is not repeated. Prints one table.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from limbeck import Recipe, run
from limbeck.schemes import catalogue

EPOCHS = 30
PUBLISHED = {"one": 300, "okddip": 300, "pcl": 300, "progressive": 300}
"""Epochs of the papers whose weights change with them."""


def recipe(family: str, kind: str, seeds: int) -> dict[str, Any]:
    """The run of one kind."""
    card = catalogue.card(catalogue.get(family, kind))
    objective = {
        name: shortened(term, PUBLISHED.get(kind)) for name, term in card["published"]["objective"].items()
    }
    schedule = {"name": "cosine", **({"cycles": card["options"]["cycles"]} if kind == "snapshot" else {})}
    return {
        "name": f"digits-{kind}",
        "seeds": seeds,
        "student": {"model": "py:limbeck.students.small:convnet", "width": 8, "depth": 3},
        "data": {"source": "digits", "samples": 400, "batch_size": 32, "views": {"crop": 1}},
        "objective": objective,
        "scheme": {"name": family, "kind": kind},
        "train": {
            "epochs": EPOCHS,
            "device": "cpu",
            "threads": 1,
            "optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
            "schedule": schedule,
        },
        "export": {"formats": []},
    }


def shortened(term: Any, epochs: int | None) -> Any:
    """A term whose ramp takes the same share of these epochs as of the paper's."""
    weight = term.get("weight") if isinstance(term, dict) else None
    if epochs is None or not isinstance(weight, dict):
        return term
    return {**term, "weight": {**weight, "epochs": weight["epochs"] * EPOCHS / epochs}}


def line(kind: str, result: dict[str, Any]) -> str:
    """One row of the table."""
    gain, student = result["gain"], result["student"]["accuracy"]
    low, high = gain["interval"]
    others = {**result.get("peers", {}), **result.get("branches", {})}
    joined = others.get("ensemble")
    told = "" if joined is None else f"{100 * sum(joined['accuracy']) / len(student):.1f} %"
    mean = 100 * sum(student) / len(student)
    span = f"{100 * gain['mean']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})"
    return f"| `{kind}` | {mean:.1f} % | {span} | {told} |"


def main() -> None:
    """Run what is asked for."""
    reader = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    reader.add_argument("kinds", nargs="*", help="kinds; all, where none is given")
    reader.add_argument("--out", type=Path, default=Path("runs/schemes-on-digits"))
    reader.add_argument("--seeds", type=int, default=5)
    given = reader.parse_args()
    rows = []
    for family in catalogue.FAMILIES:
        for kind in catalogue.kinds(family):
            if given.kinds and kind not in given.kinds:
                continue
            folder = given.out / kind
            written = folder / "result.json"
            if written.exists():
                result = json.loads(written.read_text())
            else:
                result = run(
                    Recipe.from_dict(recipe(family, kind, given.seeds)), folder, resume=folder.exists()
                )
            rows.append(line(kind, result))
            control = result["control"]["accuracy"]
            print(f"{rows[-1]}  control {100 * sum(control) / len(control):.1f} %", flush=True)
    print("\n| Kind | Student | Gain in points, 95 % interval | Ensemble |\n| --- | --- | --- | --- |")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
