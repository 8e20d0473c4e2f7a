"""What the benchmarks share: paired rounds, one table, one JSON file each."""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
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
    RESULTS.mkdir(exist_ok=True)
    import limbeck

    report = {
        "name": name,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread(s)",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "limbeck": limbeck.__version__,
        },
        "rows": rows,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(report, indent=1) + "\n")
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
