"""Runs `limbeck` again and again, each time in a process of its own, and says how each ended.

Each line of standard input is a JSON list of groups; a group is a list of {"arguments": [...],
"moment": name or null, "environment": {...}} that run side by side. Importing torch takes seconds and is done
once; every command then runs in a fork. The answer to a line is one JSON line: for each group its exit codes,
negative for a signal. Messages go to standard error.
"""

import importlib
import json
import os
import sys
import warnings
from typing import Any

__all__ = ["child", "preload"]

MODULES = (
    "limbeck.cli",
    "limbeck.report",
    "limbeck.running",
    "matplotlib.figure",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "sklearn.datasets",
    "timm.optim",
    "timm.scheduler",
    "torchmetrics.functional.classification",
    "torchvision",
)


def preload() -> None:
    """Everything that a run imports. No tensor is computed here: a fork must not inherit running threads."""
    for module in MODULES:
        importlib.import_module(module)


def child(arguments: list[str], moment: str | None = None, environment: dict[str, str] | None = None) -> int:
    """Start one command in a fork; its process number."""
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forking beside threads
        number = os.fork()
    if number:
        return number
    code = 70
    try:
        os.dup2(2, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(environment or {})
        if moment is not None:
            from moments import trap

            trap(moment)
        from limbeck.cli import main

        code = main(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main(groups: list[list[dict[str, Any]]]) -> list[list[int]]:
    """Run the groups one after the other."""
    ends = []
    for group in groups:
        numbers = [child(**command) for command in group]
        ends.append([os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in numbers])
    return ends


if __name__ == "__main__":
    preload()
    for line in sys.stdin:
        print(json.dumps(main(json.loads(line))), flush=True)
