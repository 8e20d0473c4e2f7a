"""How the contract checks of `limbeck.methods.testing` look at a loss, and what they say where one fails."""

from collections.abc import Callable

import torch
from torch import Tensor

from limbeck.methods._cases import Case, tensors

__all__ = ["back", "equal", "gradients", "refused", "works"]


def gradients(case: Case) -> list[Tensor]:
    """What reached the student's answer."""
    return [t.grad for t in tensors(case.student) if t.grad is not None]


def back(loss: Tensor) -> None:
    """Back-propagate."""
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it bare


def refused(call: Callable[[], object], what: str) -> str:
    """The message of the `ValueError` that a call must end in."""
    try:
        call()
    except ValueError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(
            f"{what} ends in {type(error).__name__}, not in a ValueError: {error}"
        ) from error
    raise AssertionError(f"{what} is not refused")


def works(call: Callable[[], Tensor], what: str) -> None:
    """A call must give a finite loss."""
    try:
        loss = call()
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    assert loss.isfinite(), f"{what}: the loss is {loss.item()}"


def equal(a: Tensor, b: Tensor, message: str, tolerance: float = 1e-9) -> None:
    """Two tensors must agree."""
    assert torch.allclose(a, b, rtol=tolerance, atol=tolerance), (
        f"{message}: {a.tolist()} against {b.tolist()}"
    )
