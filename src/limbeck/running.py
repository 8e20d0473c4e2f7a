"""`limbeck.run`: a recipe's work from end to end, whichever kind of work it is."""

from pathlib import Path
from typing import Any

from limbeck.errors import InputError
from limbeck.progress import Display, Silent
from limbeck.recipe import Recipe
from limbeck.runner import Run
from limbeck.succession import Succession

__all__ = ["run"]


def run(
    recipe: Recipe, out: Path | str, *, resume: bool = False, jobs: int = 1, display: Display | None = None
) -> dict[str, Any]:
    """Run a recipe into a folder.

    Args:
        recipe: what to do.
        out: the run folder; made when it does not exist.
        resume: go on with a run that is there already.
        jobs: how many trainings (controls and students of all seeds) go on side by side, each in a process
            of its own; the threads of this process are shared out among them.
        display: where progress is shown; None shows nothing.

    Returns:
        What `result.json` holds.

    Raises:
        InputError: the recipe cannot work, or the folder is taken.
        WorkError: the work failed; what was saved stays, and `resume` goes on from it.
        Interrupted: Ctrl-C; the state is saved.
    """
    if recipe.variants:
        raise InputError("variants: are for limbeck compare; limbeck distill trains one student.")
    kind = Run if recipe.chain is None else Succession
    return kind(recipe, Path(out), display or Silent(), jobs).go(resume)
