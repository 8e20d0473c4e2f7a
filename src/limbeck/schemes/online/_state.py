"""What several teachers remember, under one roof: names of peers before the names of tensors."""

from collections.abc import Mapping

from torch import Tensor

__all__ = ["joined", "parted"]


def joined(states: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The states of all, `name/key`."""
    return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def parted(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The state of one."""
    begin = f"{name}/"
    return {key.removeprefix(begin): value for key, value in state.items() if key.startswith(begin)}
