"""What the endurance tests share: starting the library in processes that may be killed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_run import arguments, fingerprint, write_recipe

HERE = Path(__file__).parent

Group = list[dict[str, Any]]
Forks = Callable[[list[Group]], tuple[list[list[int]], str]]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """One thread for each process, so that tests beside each other do not slow each other down."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads}


@pytest.fixture(scope="session")
def forks(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Run groups of commands one after the other; exit codes by group, and all messages (see forks.py)."""
    log = tmp_path_factory.mktemp("forks") / "messages.txt"
    with (
        log.open("wb") as messages,
        subprocess.Popen(
            [sys.executable, str(HERE / "forks.py")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
        ) as server,
    ):

        def run(groups: list[Group]) -> tuple[list[list[int]], str]:
            assert server.stdin is not None
            assert server.stdout is not None
            before = log.stat().st_size
            print(json.dumps(groups), file=server.stdin, flush=True)
            answer = server.stdout.readline()
            said = log.read_bytes()[before:].decode(errors="replace")
            assert answer, said[-4000:]
            ends: list[list[int]] = json.loads(answer)
            return ends, said

        yield run
        assert server.stdin is not None
        server.stdin.close()


@pytest.fixture(scope="session")
def whole(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A recipe, and what its run found that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    recipe = write_recipe(folder / "recipe")
    ends, said = forks([[{"arguments": arguments(recipe, folder / "run")}]])
    assert ends == [[0]], said[-6000:]
    return recipe, fingerprint(folder / "run")


@pytest.fixture
def pair() -> Callable[[dict[str, Any]], Group]:
    """The command of one process as a group of two that work together, as torchrun starts them."""

    def make(command: dict[str, Any]) -> Group:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        return [
            {**command, "environment": {**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}}
            for rank in (0, 1)
        ]

    return make
