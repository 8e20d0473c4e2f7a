"""Errors for people: what is wrong, where, what is allowed, what was given, and the nearest match."""

import difflib
from collections.abc import Iterable

__all__ = ["InputError", "UnknownNameError", "WorkError", "nearest", "unknown"]


class InputError(ValueError):
    """The user gave something that cannot work. The command line prints it and exits with 2."""


class UnknownNameError(InputError):
    """A name that is not in a closed list; who knows of further names can say so with `unknown`."""

    def __init__(self, message: str, what: str, given: str, allowed: list[str], where: str) -> None:
        super().__init__(message)
        self.what, self.given, self.allowed, self.where = what, given, allowed, where


class WorkError(RuntimeError):
    """The work itself failed (a loss became NaN, the disk is full); exit code 1. Says what is saved."""


class DivergedError(WorkError):
    """A loss or a parameter is not finite any more: this training cannot go on, others can."""


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A sentence that names the closest allowed word, with a leading space; empty when none is close."""
    found = difflib.get_close_matches(str(given), [str(a) for a in allowed], n=1, cutoff=0.6)
    return f' Did you mean "{found[0]}"?' if found else ""


def unknown(what: str, given: str, allowed: Iterable[str], where: str = "") -> UnknownNameError:
    """The error for a name that is not in a closed list.

    Args:
        what: the kind of thing, singular ("method", "key", "layer").
        given: what the user wrote.
        allowed: every name that would have worked.
        where: place of the name ("objective.kd", "recipe.yaml"); optional.
    """
    names = sorted({str(a) for a in allowed})
    listed = ", ".join(names[:40]) + (f", … ({len(names)} in all)" if len(names) > 40 else "")
    place = f"{where}: " if where else ""
    message = f'{place}unknown {what} "{given}".{nearest(given, names)} Allowed: {listed or "none"}.'
    return UnknownNameError(message, what, str(given), names, where)
