"""Several students one after another, each the teacher of the next: what `chain:` in a recipe asks for.

Teacher assistants (Mirzadeh et al. 2020, https://arxiv.org/abs/1902.03393) and born-again generations
(Furlanello et al. 2018, https://arxiv.org/abs/1805.04770). Every link is a run of its own in a folder below
the chain's, so that each resumes by itself, and a finished one is not touched again: the chain ends with the
same bits wherever it was stopped. Its student of the first seed teaches the next link, frozen: `run:FOLDER`.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import torch

from limbeck.build import load_data
from limbeck.data import Data
from limbeck.errors import InputError
from limbeck.progress import Display, Silent
from limbeck.reading import read_yaml, write_yaml
from limbeck.recipe import Link, Recipe, links_of
from limbeck.rehearsal import runtime_of
from limbeck.runfolder import RunFolder
from limbeck.runner import Run
from limbeck.summing import conclude_chain
from limbeck.training.checkpoint import write_atomically

__all__ = ["Succession"]


class Succession:
    """The work of a recipe with a chain.

    Args:
        recipe: what to do.
        out: the run folder.
        display: where progress is shown.
        jobs: how many trainings of one link go on side by side.
    """

    def __init__(self, recipe: Recipe, out: Path, display: Display, jobs: int = 1) -> None:
        self.recipe = recipe
        self.folder = RunFolder(out)
        self.links = links_of(recipe, out.absolute())
        self.runtime = runtime_of(recipe.train)
        self.jobs = jobs
        self.display = display if self.runtime.main else Silent()
        self.data: Data

    def go(self, resume: bool) -> dict[str, Any]:
        """All of it; see `limbeck.running.run`."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.runtime.guard())

            def take() -> None:
                stack.enter_context(self.folder.lock())
                self.folder.check(self.recipe, resume)
                self._check_first_seed()

            self.runtime.first(take)
            self.display.say(
                f"{self.recipe.name}: a chain of {len(self.links)} links, built once to begin with"
            )
            self.data = load_data(self.recipe)
            if not self._begun():
                for link in links_of(self.recipe):  # the networks that are to teach stand there untrained
                    Run(link.recipe, self._place(link), Silent(), self.jobs).rehearse()
            self.runtime.first(self._claim)
            found = [self._done(link) for link in self.links]
            self._set_threads()
            return conclude_chain(self.recipe, self.links, found, self.data, self.runtime, self.folder)

    def _place(self, link: Link) -> Path:
        return self.folder.path / link.folder

    def _begun(self) -> bool:
        return self.runtime.told(str(self.folder.recipe.exists())) == "True"

    def _check_first_seed(self) -> None:
        """The first seed's students teach: another one would make teachers of other students.

        Raises:
            InputError: the chain was begun with another.
        """
        if not self.folder.recipe.exists():
            return
        first, wanted = self.folder.load_recipe().seed_list[0], self.recipe.seed_list[0]
        if first != wanted:
            raise InputError(
                f"{self.folder.path}: seeds: the teachers of its links are the students of seed {first}, so "
                f"that one must stay the first; given {wanted}. More seeds may follow it, or choose another "
                "--out."
            )

    def _claim(self) -> None:
        """Make the folder the chain's; its links find each other where it lies now."""
        shared = self.recipe.train.threads or max(1, torch.get_num_threads() // self.jobs)
        self.folder.claim(self.recipe, self.data.hashes(), shared)
        for link in self.links:
            _move(RunFolder(self._place(link)), link.recipe)

    def _done(self, link: Link) -> dict[str, Any]:
        """What the run of a link found; it is done now, where it is not yet."""
        folder = RunFolder(self._place(link))
        if self.runtime.told(str(self._is_done(link))) == "True":
            if self.runtime.main:
                from limbeck import report

                report.write(folder.path)  # a kill may have come between the result and its page
        else:
            by = f", taught by {link.taught_by}" if link.taught_by else ""
            self.display.say(f"link {link.number} of {len(self.links)}: {link.name}{by}")
            self._set_threads()
            Run(link.recipe, folder.path, self.display, self.jobs).go(resume=True)
            self.runtime.wait()
        found: dict[str, Any] = json.loads(folder.result.read_text())
        return found

    def _set_threads(self) -> None:
        """As many as the chain was started with: a link would take what the one before it left."""
        torch.set_num_threads(self.folder.threads(torch.get_num_threads()) * self.jobs)

    def _is_done(self, link: Link) -> bool:
        """Whether a link has found all that it is to find: more seeds or exports may have been asked for."""
        file = self._place(link) / "result.json"
        if not file.exists():
            return False
        found = json.loads(file.read_text())
        formats = sorted(link.recipe.export.formats)
        return found["seeds"] == list(link.recipe.seed_list) and sorted(found["exports"]) == formats


def _move(folder: RunFolder, recipe: Recipe) -> None:
    """Bring the names of folders up to date in the recipe of a link, where the chain's lies elsewhere now."""
    if not folder.recipe.exists():
        return
    known, now = read_yaml(folder.recipe), recipe.dump()
    changed = False
    for keys, key in ((("teacher",), "model"), (("control", "teacher"), "weights")):
        old: Any = known
        new: Any = now
        for step in keys:
            old, new = (part.get(step) if isinstance(part, dict) else None for part in (old, new))
        if not (isinstance(old, dict) and isinstance(new, dict) and isinstance(new.get(key), str)):
            continue
        moved = Path(str(old.get(key))).parts[-2:] == Path(new[key]).parts[-2:]
        if moved and old[key] != new[key] and (key == "weights" or new[key].startswith("run:")):
            old[key], changed = new[key], True
    if changed:
        write_atomically(folder.recipe, write_yaml(known))
