"""Work of several processes that talk by gloo, for programs that tests start.

Only a process that has not back-propagated yet may be forked, so such work is a program of its own.
"""

import os
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["found_by", "in_processes"]


def in_processes(world: int, folder: Path, work: Callable[[int], object]) -> int:
    """Fork processes, each of which saves what `work(rank)` gives as `<rank>.pt`; the worst exit code."""
    torch.set_num_threads(1)
    children = []
    for rank in range(world):
        with warnings.catch_warnings():
            # Newer Pythons warn of forking beside threads.
            warnings.simplefilter("ignore", DeprecationWarning)
            number = os.fork()
        if number:
            children.append(number)
            continue
        code = 1
        try:
            meeting = f"file://{folder}/meeting"
            dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
            torch.save(work(rank), folder / f"{rank}.pt")
            dist.destroy_process_group()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return max(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) for number in children)


def found_by(program: str, folder: Path, world: int) -> list[Any]:
    """Start a program that ends in `in_processes`; what each of its processes found."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    ended = subprocess.run(
        [sys.executable, program, str(folder)],
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-6000:]
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]
