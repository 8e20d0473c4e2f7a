"""Trainings of a run in a process of their own: `python -m limbeck.worker FOLDER`.

Only `limbeck.jobs` starts it. It reads one training from each line of standard input, [role, seed] as JSON,
and answers each with a line on standard output: ["done", ""], ["stopped", ""], or how it failed and why. It
ends when its input does.
"""

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

from limbeck.errors import InputError, WorkError
from limbeck.phase import Interrupted

__all__ = ["main"]


def main(folder: str) -> None:
    """Do what is asked for, until nothing more is."""
    # Whatever libraries or a user's own network print must not stand among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    wanted: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(wanted,), daemon=True).start()
    from limbeck.comparison import open_run

    def answer(kind: str, text: str = "") -> None:
        print(json.dumps([kind, text]), file=answers, flush=True)

    try:
        with open_run(Path(folder)) as run:
            while True:
                role, seed = wanted.get()
                run.train(role, seed)
                answer("done")
    except Interrupted:
        answer("stopped")
    except InputError as error:
        answer("input", str(error))
    except WorkError as error:
        answer("work", str(error))
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        answer("work", f"failed with {type(error).__name__}: {text}")


def _listen(wanted: "queue.SimpleQueue[Any]") -> None:
    """Take orders; when the run's own process is gone, end at once: the state is as after any other kill."""
    for line in sys.stdin:
        wanted.put(json.loads(line))
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1])
    sys.stderr.flush()
    os._exit(0)  # at once: the thread still waits for the end of its input
