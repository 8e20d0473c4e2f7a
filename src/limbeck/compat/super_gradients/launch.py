"""How many processes there are: `MultiGPUMode` there, the launcher here."""

import os
from enum import StrEnum

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
    try:
        mode = MultiGPUMode(mode) if not isinstance(mode, MultiGPUMode) else mode
    except ValueError:
        names = ", ".join(f"MultiGPUMode.{m.name}" for m in MultiGPUMode)
        raise InputError(f"multi_gpu: must be one of {names}, given {mode!r}.") from None
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if mode is MultiGPUMode.DATA_PARALLEL:
        raise InputError(
            "multi_gpu: DATA_PARALLEL splits each batch among threads, which is slower than one process for "
            "each GPU; use DISTRIBUTED_DATA_PARALLEL and start the script by torchrun --nproc-per-node N."
        )
    if mode is MultiGPUMode.DISTRIBUTED_DATA_PARALLEL and world == 1:
        raise InputError(
            "multi_gpu: DISTRIBUTED_DATA_PARALLEL needs one process for each GPU, which a script cannot "
            "start for itself: torchrun --nproc-per-node N SCRIPT."
        )
    if mode is MultiGPUMode.OFF and world > 1:
        raise InputError(
            f"multi_gpu: OFF, but {world} processes were started; use DISTRIBUTED_DATA_PARALLEL or AUTO."
        )
    return world
