"""Devices and precisions by the words of a recipe."""

from collections.abc import Callable, Sequence

import torch

from limbeck.errors import InputError, unknown

__all__ = ["AUTO", "PRECISIONS", "check_device", "check_together", "fitting_precision"]

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}

AUTO = "auto"
"""The precision that suits the machine: fp32 on a CPU, else bf16 where the hardware has it, else fp16."""


def check_together(device: str, shard: Sequence[str], compile: bool) -> None:
    """Refuse what several processes cannot do.

    Raises:
        InputError: one numbered device for all of them, or a network that is both compiled and shared out.
    """
    if ":" in device:
        raise InputError(
            f'train.device: "{device}" is one device, and several processes were started; '
            f"{device.split(':')[0]} or auto gives each process its own."
        )
    if shard and compile:
        raise InputError("train.compile: cannot be joined with train.shard on several processes.")


def fitting_precision(device: str) -> str:
    """The precision that `auto` means on this device."""
    if device == "cpu" or not torch.accelerator.is_available():
        return "fp32"
    cuda = (torch.cuda.is_available() and device in ("auto", "cuda")) or device.startswith("cuda")
    return "fp16" if cuda and not torch.cuda.is_bf16_supported(including_emulation=False) else "bf16"


def check_device(device: str) -> None:
    """Refuse a device that is not known, or not here.

    Raises:
        InputError: it is one of these.
    """
    kind = device.split(":")[0]
    if kind not in ("auto", "cpu", "cuda", "mps", "xpu"):
        raise unknown("device", device, ("auto", "cpu", "cuda", "mps", "xpu"), where="train.device")
    available: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "xpu": torch.xpu.is_available,
    }
    if kind in available and not available[kind]():
        raise InputError(f'train.device: "{device}" is not available on this machine; use auto or cpu.')
