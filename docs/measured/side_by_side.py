"""The tables of the page of comparison, from what was measured and lies beside this file.

    python docs/measured/side_by_side.py RUN benchmarks/results/methods.json

takes the figures over from the folder of a comparison and from the benchmark of steps.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck import methods

HERE = Path(__file__).resolve().parent
COMPARISON, STEPS = HERE / "comparison.json", HERE / "steps.json"

NEEDS = {
    "embedding": "what enters the classifiers",
    "map": "the last maps",
    "classified": "the last maps",
    "middle": "the maps in the middle",
    "stages": "the maps of all stages",
    "before_relu": "the maps of all stages, before the ReLU",
    "flow": "the maps between all stages",
}
WHY_NOT = {
    "flow_of_solution": "wants networks of one width",
    "instance_graph": "left out, slow on a CPU",
    "masked_generative": "left out, slow on a CPU",
    "review_kd": "left out, slow on a CPU",
    "semantic_calibration": "left out, slow on a CPU",
    "singular_vectors": "left out, slow on a CPU",
    "variational_information": "left out, slow on a CPU",
}
"""Why a method that compares two networks on images is not in the comparison."""


def keep(run: Path, steps: Path) -> None:
    """Take the figures over."""
    result = json.loads((run / "result.json").read_text())
    figures = ("accuracy", "best", "agreement", "ece", "seconds", "gain", "objective", "stages")

    def kept(entry: dict[str, Any]) -> dict[str, Any]:
        return {key: entry[key] for key in figures if key in entry}

    small = {
        "seeds": result["seeds"],
        "teacher": {k: result["teacher"][k] for k in ("accuracy", "parameters")},
        "student": {"parameters": result["student"]["parameters"]},
        "control": kept(result["control"]),
        "variants": {name: kept(entry) for name, entry in result["variants"].items()},
        "environment": result["environment"],
    }
    COMPARISON.write_text(json.dumps(small, indent=1) + "\n")
    rows = json.loads(steps.read_text())["rows"]
    STEPS.write_text(
        json.dumps({r["case"]: {k: r[k] for k in ("ratio", "spread", "rounds")} for r in rows}) + "\n"
    )


def outcomes() -> list[tuple[str, ...]]:
    """Control and methods, the largest gain first: figures over the seeds."""
    found = json.loads(COMPARISON.read_text())
    rows = [("control", *_figures(found["control"]), "", "")]
    variants = sorted(found["variants"].items(), key=lambda item: -item[1]["gain"]["mean"])
    for name, entry in variants:
        low, high = entry["gain"]["interval"]
        parts = ", ".join(f"[`{n}`](methods.md#{n})" for n in _terms(entry))
        beside = " with kd" if "kd" in _terms(entry) and len(_terms(entry)) > 1 else ""
        shown = f"`{name}`" if beside else parts
        gain, interval = _signed(entry["gain"]["mean"]), f"{_signed(low)} to {_signed(high)}"
        rows.append((shown, *_figures(entry), gain, interval))
    return rows


def side_by_side(cards: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Every method that compares two networks: what it needs, what a step costs, what it brought."""
    found = json.loads(COMPARISON.read_text())["variants"]
    steps = json.loads(STEPS.read_text())
    rows = []
    for card in cards:
        name = card["name"]
        if card["kind"] == "label" or name.startswith("token_"):
            continue
        cost = "{ratio:.2f} ({low:.2f} to {high:.2f})".format(
            ratio=steps[name]["ratio"], low=steps[name]["spread"][0], high=steps[name]["spread"][1]
        )
        own = [entry for entry in found.values() if _terms(entry) == [name]]
        brought = WHY_NOT.get(name, "not compared")
        if own:
            low, high = own[0]["gain"]["interval"]
            brought = f"{_signed(own[0]['gain']['mean'])} ({_signed(low)} to {_signed(high)})"
        rows.append((f"[`{name}`](methods.md#{name})", needs(card), cost, brought))
    return rows


def needs(card: dict[str, Any]) -> str:
    """What a method has to be given."""
    said = ["logits"] if card["pairs"] == "none" else [NEEDS[card["prefers"]]]
    said += ["class indices"] * card["hard_targets"]
    said += ["a memory of all samples"] * (card["stateful"] and card["prefers"] == "embedding")
    said += ["a first stage of its own"] * (card["stage"] != "none")
    said += ["the teacher's classifier, which stays in the student"] * card["reuses_head"]
    return ", ".join(said)


def _terms(entry: dict[str, Any]) -> list[str]:
    """The methods that a student learned from a teacher by, in its stages too."""
    objectives = [*(stage["objective"] for stage in entry.get("stages") or ()), entry["objective"]]
    names = [methods.file_name(methods.get(name)) for terms in objectives for name in terms]
    return list(dict.fromkeys(name for name in names if name != "cross_entropy"))


def _figures(entry: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_spread(entry[key]) for key in ("accuracy", "best", "agreement", "ece"))


def _spread(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


if __name__ == "__main__":
    keep(Path(sys.argv[1]), Path(sys.argv[2]))
