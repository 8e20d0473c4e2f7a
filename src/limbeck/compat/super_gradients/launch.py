"""How many processes there are: `MultiGPUMode` there, the launcher here."""

import os
import sys
from enum import StrEnum
from pathlib import Path

from limbeck.errors import InputError

__all__ = ["MultiGPUMode", "processes"]


class MultiGPUMode(StrEnum):
    """SuperGradients' modes."""

    OFF = "Off"
    DATA_PARALLEL = "DP"
    DISTRIBUTED_DATA_PARALLEL = "DDP"
    AUTO = "AUTO"


def processes(mode: MultiGPUMode | str) -> int:
    """The number of processes that were started.

    Raises:
        InputError: the mode asks for something else than how the script was started.
    """
    mode = _mode(mode)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    command = f"torchrun --nproc-per-node N {Path(sys.argv[0]).name or 'SCRIPT'}"
    if mode is MultiGPUMode.DATA_PARALLEL:
        raise InputError(
            "multi_gpu: DATA_PARALLEL splits each batch among threads, which is slower than one process for "
            f"each GPU; use DISTRIBUTED_DATA_PARALLEL and start N processes: {command}."
        )
    if mode is MultiGPUMode.DISTRIBUTED_DATA_PARALLEL and world == 1:
        raise InputError(
            "multi_gpu: DISTRIBUTED_DATA_PARALLEL needs one process for each GPU, which a script cannot "
            f"start for itself. Start N processes: {command}."
        )
    if mode is MultiGPUMode.OFF and world > 1:
        raise InputError(
            f"multi_gpu: OFF, but {world} processes were started; use DISTRIBUTED_DATA_PARALLEL or AUTO."
        )
    return world


def _mode(given: MultiGPUMode | str) -> MultiGPUMode:
    """A mode, its value, or its name."""
    for mode in MultiGPUMode:
        if isinstance(given, str) and given.lower() in (mode.value.lower(), mode.name.lower()):
            return mode
    names = ", ".join(f"MultiGPUMode.{mode.name}" for mode in MultiGPUMode)
    raise InputError(f"multi_gpu: must be one of {names}, given {given!r}.")
