"""What the command line says when something is wrong: one line for people."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from limbeck.errors import InputError, WorkError, nearest

__all__ = ["fail", "perform", "unforeseen", "usage"]


def usage(error: Any) -> str:
    """What is wrong with the words of the command line, and what is allowed."""
    context = error.ctx
    path = "" if context is None else context.command_path.removeprefix("limbeck").strip()
    place = f"{path}: " if path else ""
    given = getattr(error, "option_name", None)
    if given is None or context is None or not hasattr(error, "possibilities"):
        usage = "" if context is None else " ".join(context.get_usage().split())
        return f"{place}{error.format_message().rstrip('.')}. {usage}".strip()
    allowed = [name for p in context.command.params for name in p.opts if name.startswith("-")] + ["--help"]
    if "." in given:
        return f'{place}unknown option "{given}". Settings of the recipe stand without dashes: key.sub=value.'
    listed = ", ".join(sorted(allowed))
    return f'{place}unknown option "{given}".{nearest(given, allowed)} Allowed: {listed}.'


def unforeseen(error: Exception) -> str:
    """An error that nobody foresaw, in one line; with LIMBECK_DEBUG set the traceback stands before it."""
    if os.environ.get("LIMBECK_DEBUG"):
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    text = " ".join(str(error).split())[:500]
    hint = "" if os.environ.get("LIMBECK_DEBUG") else " LIMBECK_DEBUG=1 shows the way to it."
    return f"failed with {type(error).__name__}: {text}{where}.{hint}"


def fail(message: str, code: int) -> int:
    """Say it on standard error. Returns the exit code."""
    print(f"limbeck: {message}", file=sys.stderr, flush=True)
    return code


def perform(command: Any, arguments: list[str] | None, name: str, interrupted: str = "interrupted") -> int:
    """Run a command of the command line, and say what goes wrong.

    Args:
        command: of click's or typer's kind.
        arguments: its words; None: those that Python was started with.
        name: what it is called, for its own help.
        interrupted: what to say on Ctrl-C.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input, 130 interrupted.
    """
    import typer

    try:
        code = command.main(args=arguments, prog_name=name, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except InputError as error:
        return fail(str(error), 2)
    except WorkError as error:
        return fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        return fail(interrupted, 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if hasattr(error, "format_message"):  # the command line's own library: a wrong option or argument
            return fail(usage(error), 2)
        return fail(unforeseen(error), 1)
