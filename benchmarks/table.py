"""What the benchmarks share: rounds in which the sides take turns, one table, one JSON file each."""

import json
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def paired(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, steps: int
) -> list[tuple[float, float]]:
    """Process CPU seconds of one step, (ours, theirs) by round; the two take turns within each round."""
    found = []
    for turn in range(rounds):
        spent = [0.0, 0.0]
        for step in range(steps):
            # Who goes first changes, so that neither always finds the caches warm.
            order = (0, 1) if (turn + step) % 2 == 0 else (1, 0)
            for side in order:
                begin = time.process_time()
                (ours, theirs)[side]()
                spent[side] += time.process_time() - begin
        found.append((spent[0] / steps, spent[1] / steps))
    return found


def row(
    case: str, pairs: list[tuple[float, float]], unit: str, goal: str, holds: Callable[[float, float], bool]
) -> dict[str, Any]:
    """One line of the table: medians over the rounds, and the ratio's median with its spread."""
    ratios = [a / b for a, b in pairs]
    extra = statistics.median(a - b for a, b in pairs)
    scale = {"ms": 1e3, "µs": 1e6}[unit]
    ratio = statistics.median(ratios)
    return {
        "case": case,
        "ours": round(statistics.median(a for a, _ in pairs) * scale, 4),
        "theirs": round(statistics.median(b for _, b in pairs) * scale, 4),
        "unit": unit,
        "ratio": round(ratio, 4),
        "spread": [round(min(ratios), 4), round(max(ratios), 4)],
        "rounds": len(pairs),
        "goal": goal,
        "holds": holds(ratio, extra * 1e3),
        "extra_ms": round(extra * 1e3, 4),
    }


def publish(name: str, rows: list[dict[str, Any]]) -> None:
    """Print the table and write `results/<name>.json`."""
    report = _keep(name, rows)
    print(f"{name} ({report['machine']}, torch {torch.__version__})")
    print(f"{'case':44} {'ours':>10} {'theirs':>10} {'ratio':>7}  {'spread':15} rounds  goal")
    for r in rows:
        spread = f"{r['spread'][0]:.3f}–{r['spread'][1]:.3f}"
        print(
            f"{r['case']:44} {r['ours']:>7.3f} {r['unit']:2} {r['theirs']:>7.3f} {r['unit']:2} "
            f"{r['ratio']:>7.3f}  "
            f"{spread:15} {r['rounds']:>6}  {r['goal']}: {'holds' if r['holds'] else 'MISSED'}"
        )
    sys.stdout.flush()


def turns(sides: Mapping[str, Callable[[], object]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Process CPU seconds of one step of each side, by round; all take turns within each round."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    drawn = random.Random(0)
    for _ in range(rounds):
        spent = dict.fromkeys(sides, 0.0)
        for _ in range(steps):
            # Another order each time, so that nobody always finds the caches as the same neighbour left them.
            for name in drawn.sample(list(sides), len(sides)):
                begin = time.process_time()
                sides[name]()
                spent[name] += time.process_time() - begin
        for name, seconds in spent.items():
            found[name].append(seconds / steps)
    return found


def side_row(
    task: str,
    side: str,
    spent: Sequence[float],
    plain: Sequence[float],
    rival: Sequence[float] | None = None,
    goal: float | None = None,
) -> dict[str, Any]:
    """One line of a table of several sides.

    Args:
        task: what was computed; lines of one task stand together.
        side: who did it.
        spent: seconds of a step, by round, as `turns` gives them.
        plain: those of the side by whose time all are divided.
        rival: those of the side that this one is to be faster than; None: there is none, or it did not run.
        goal: how many times as fast as the rival.
    """
    ratios = [a / b for a, b in zip(spent, plain, strict=True)]
    faster = [b / a for a, b in zip(spent, rival, strict=True)] if rival else []
    times = round(statistics.median(faster), 4) if faster else None
    return {
        "task": task,
        "side": side,
        "ms": round(statistics.median(spent) * 1e3, 4),
        "ratio": round(statistics.median(ratios), 4),
        "spread": [round(min(ratios), 4), round(max(ratios), 4)],
        "times": times,
        "times_spread": [round(min(faster), 4), round(max(faster), 4)] if faster else None,
        "goal": goal,
        "holds": None if goal is None or times is None else times >= goal,
        "rounds": len(ratios),
        "skipped": None,
    }


def skipped_row(task: str, side: str, why: str, goal: float | None = None) -> dict[str, Any]:
    """The line of a side that could not run."""
    return {"task": task, "side": side, "goal": goal, "skipped": why}


def publish_sides(name: str, rows: list[dict[str, Any]], rival: str, versions: Mapping[str, str]) -> None:
    """Print the table of several sides and write `results/<name>.json`.

    Args:
        name: of the benchmark.
        rows: as `side_row` and `skipped_row` make them.
        rival: whom the column of speed compares with.
        versions: of what was compared, beside those that every benchmark writes down.
    """
    report = _keep(name, rows, versions)
    print(f"{name} ({report['machine']}, {report['processor']})")
    print(", ".join(f"{what} {number}" for what, number in report["versions"].items()))
    task = None
    for r in rows:
        if r["task"] != task:
            task = r["task"]
            print(f"\n{task}")
            print(
                f"{'side':44} {'a step':>11} {'of plain':>8}  {'spread':11}"
                f"  {'times ' + rival:>18}  {'spread':11} rounds  goal"
            )
        print(_side_line(r))
    sys.stdout.flush()


def _side_line(r: Mapping[str, Any]) -> str:
    goal = "" if r["goal"] is None else f"at least {r['goal']:g}"
    if r["skipped"] is not None:
        return f"{r['side']:44} skipped: {r['skipped']}" + (f" (goal: {goal})" if goal else "")
    spread = f"{r['spread'][0]:.3f}–{r['spread'][1]:.3f}"
    times = spread_times = ""
    if r["times"] is not None:
        times = f"{r['times']:.3f}"
        spread_times = f"{r['times_spread'][0]:.3f}–{r['times_spread'][1]:.3f}"
    if goal:
        goal += {True: ": holds", False: ": MISSED", None: ": nothing to compare with"}[r["holds"]]
    return (
        f"{r['side']:44} {r['ms']:>8.3f} ms {r['ratio']:>8.3f}  {spread:11}"
        f"  {times:>18}  {spread_times:11} {r['rounds']:>6}  {goal}"
    ).rstrip()


def _keep(name: str, rows: list[dict[str, Any]], versions: Mapping[str, str] = {}) -> dict[str, Any]:
    """Write `results/<name>.json`; gives what it holds."""
    RESULTS.mkdir(exist_ok=True)
    import limbeck

    report = {
        "name": name,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "processor": _processor(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "limbeck": limbeck.__version__,
            **versions,
        },
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _processor() -> str:
    """Its maker's name, where the system tells."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
