"""Kills a run a hundred times, at random moments and from outside, and compares what it ends with.

    python benchmarks/kill_and_resume.py [--kills 100] [--seed 0]

One run is left alone. Then runs of the same recipe (digits; teacher, control and student with BatchNorm and
dropout; a state after every step) are killed with SIGKILL and resumed until they end; whatever they found,
weights and metrics, must equal the first to the bit. Prints one table; exits with 1 where anything differs.
POSIX only: the processes are forked, because importing torch takes seconds.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "endurance"))

from forks import child, preload  # noqa: E402
from tiny_run import arguments, fingerprint, write_recipe  # noqa: E402


def main() -> int:
    """Kill, resume, compare; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    preload()
    folder = Path(tempfile.mkdtemp(prefix="limbeck-kills-"))
    os.environ["LIMBECK_CACHE"] = str(folder / "cache")
    try:
        return _work(folder, given.kills, random.Random(given.seed))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _work(folder: Path, kills: int, drawn: random.Random) -> int:
    recipe = write_recipe(folder / "recipe", seeds=2, epochs=16, formats="")
    with _quiet(folder / "messages.txt"):
        started = time.monotonic()
        first = _end(child(arguments(recipe, folder / "whole")))
        seconds = time.monotonic() - started
        if first != 0:
            print((folder / "messages.txt").read_text(), file=sys.stderr)
            return 1
        expected = fingerprint(folder / "whole")
        moments: Counter[str] = Counter()
        ends: Counter[str] = Counter()
        while moments.total() < kills:
            run = folder / f"run{ends.total()}"
            code = _chain(recipe, run, kills, seconds, drawn, moments)
            ends["equal to the bit" if code == 0 and _same(run, expected) else "different, or failed"] += 1
            shutil.rmtree(run, ignore_errors=True)
    _table(moments, ends, len(expected), seconds)
    return 0 if set(ends) == {"equal to the bit"} else 1


def _chain(
    recipe: Path, run: Path, kills: int, seconds: float, drawn: random.Random, moments: Counter[str]
) -> int:
    """Kill and resume one run until it ends; its exit code."""
    while True:
        left = moments.total() < kills
        process = child(arguments(recipe, run))
        if left:
            time.sleep(drawn.uniform(0.02, 0.3) * seconds)
            os.kill(process, signal.SIGKILL)  # in vain where it ended by itself: it is not waited for yet
        code = _end(process)
        if code != -signal.SIGKILL:
            return code
        moments[_where(run)] += 1


def _where(run: Path) -> str:
    """What the run was doing when it was killed, by what it left behind."""
    if not (run / "recipe.yaml").exists():
        return "before the recipe was written"
    if list(run.rglob(".step-*")):
        return "inside the saving of a state"
    if list(run.rglob(".*.part")):
        return "inside the writing of another file"
    trainings = [p.name for p in (run / "state").glob("*") if list(p.glob("step-*"))]
    return "while training, or evaluating" if trainings else "starting, between trainings, or concluding"


def _end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _same(run: Path, expected: dict[str, Any]) -> bool:
    return fingerprint(run) == expected


@contextlib.contextmanager
def _quiet(log: Path) -> Any:
    """What the runs say goes to a file."""
    kept = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _table(moments: Counter[str], ends: Counter[str], items: int, seconds: float) -> None:
    print(f"one run takes {seconds:.1f} s; compared: {items} files of weights and figures\n")
    print(f"{'killed':<46}{'times':>6}")
    for name, count in [*moments.most_common(), ("in all", moments.total())]:
        print(f"{name:<46}{count:>6}")
    print(f"\n{'runs, each resumed until its end':<46}{'':>6}")
    for name, count in ends.most_common():
        print(f"{name:<46}{count:>6}")


if __name__ == "__main__":
    sys.exit(main())
